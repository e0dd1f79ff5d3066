'use strict'
// How a store reaches others: raw TCP, and js-libp2p over TCP with Noise and yamux.
const net = require('net')
const toDuplex = require('./duplex')

const PROTOCOL = '/hypercore/noise/1.0.0'

// js-libp2p 3 needs it, and Node has it from 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((a, b) => { resolve = a; reject = b })
  return { promise, resolve, reject }
}

// Network is what one store listens on and the streams it replicates over. report(what, err) hears of what goes wrong.
module.exports = class Network {
  constructor (store, report) {
    this.store = store
    this.report = report
    this.servers = []
    this.node = null
    this.streams = new Set() // of functions that end one
    this.ending = false
  }

  replicate (initiator, duplex) {
    const stream = this.store.replicate(initiator)
    // A connection that is lost is no fault of the protocol; what is one has another name.
    const failed = err => { if (!this.ending) this.report('stream', err) }
    stream.on('error', failed)
    duplex.on('error', failed)
    stream.pipe(duplex).pipe(stream)
    const closed = Promise.all([stream, duplex].map(s => new Promise(resolve => s.on('close', resolve))))
    const end = () => {
      stream.destroy()
      duplex.destroy()
      return closed
    }
    this.streams.add(end)
    closed.then(() => this.streams.delete(end))
  }

  async listen () {
    const server = net.createServer(socket => {
      socket.setNoDelay(true)
      this.replicate(false, socket)
    })
    this.servers.push(server)
    await new Promise((resolve, reject) => {
      server.on('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    return server.address().port
  }

  async connect (port) {
    const socket = net.connect(port, '127.0.0.1')
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    socket.setNoDelay(true)
    this.replicate(true, socket)
  }

  async libp2p () {
    if (this.node) return this.node
    const [{ createLibp2p }, { tcp }, { noise }, { yamux }, { identify }] = await Promise.all([
      import('libp2p'), import('@libp2p/tcp'), import('@chainsafe/libp2p-noise'), import('@chainsafe/libp2p-yamux'), import('@libp2p/identify')
    ])
    this.node = await createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionGater: { denyDialMultiaddr: () => false },
      services: { identify: identify() }
    })
    await this.node.handle(PROTOCOL, stream => this.replicate(false, toDuplex(stream)))
    return this.node
  }

  async listenLibp2p () {
    const node = await this.libp2p()
    return node.getMultiaddrs().map(String)
  }

  async dial (address) {
    const node = await this.libp2p()
    const { multiaddr } = await import('@multiformats/multiaddr')
    this.replicate(true, toDuplex(await node.dialProtocol(multiaddr(address), PROTOCOL)))
  }

  // end ends all streams and everything that listens. The network can be used again.
  async end () {
    this.ending = true
    const servers = this.servers.splice(0)
    const closed = servers.map(s => new Promise(resolve => s.close(resolve)))
    const ends = [...this.streams].map(end => end())
    if (this.node) ends.push(this.node.stop())
    this.node = null
    await Promise.all([...ends, ...closed])
    this.ending = false
  }
}
