'use strict'
// A peer that speaks the messages of one core by hand over raw TCP, to say what hypercore would not.
const net = require('net')
const Hypercore = require('hypercore')
const caps = require('hypercore/lib/caps')
const { wire } = require('hypercore/lib/messages')

const types = ['sync', 'request', 'cancel', 'data', 'noData', 'want', 'unwant', 'bitfield', 'range', 'extension']

module.exports = class Raw {
  // connect returns once the channel has been asked for. wrong is to send a capability of another key.
  static async connect ({ port, key, wrong = false }) {
    const socket = net.connect(port, '127.0.0.1')
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    const raw = new Raw()
    raw.socket = socket
    raw.stream = Hypercore.createProtocolStream(true)
    raw.stream.pipe(socket).pipe(raw.stream)
    raw.stream.on('error', () => {})
    socket.on('error', () => {})
    socket.on('close', () => { raw.state = 'ended' })
    const { noiseStream } = raw.stream
    await noiseStream.opened
    const { userData: mux } = noiseStream
    raw.state = 'asked'
    raw.received = Object.fromEntries(types.map(type => [type, []]))
    raw.channel = mux.createChannel({
      protocol: 'hypercore/alpha',
      id: Hypercore.discoveryKey(key),
      handshake: wire.handshake,
      messages: types.map(type => ({ encoding: wire[type], onmessage: m => raw.received[type].push(readable(m)) })),
      onopen: () => { raw.state = 'open' },
      onclose: () => { if (raw.state !== 'ended') raw.state = 'closed' }
    })
    const shown = wrong ? Buffer.alloc(32, 'another') : key
    raw.channel.open({ seeks: true, capability: caps.replicate(true, shown, noiseStream.handshakeHash) })
    return raw
  }

  // send sends messages in one batch: a list of [type, message].
  send (messages) {
    this.channel.cork()
    for (const [type, message] of messages) this.channel.messages[types.indexOf(type)].send(message)
    this.channel.uncork()
  }

  // receive waits for count messages of a type and returns all that there are.
  async receive (type, count) {
    while (this.received[type].length < count) await new Promise(resolve => setTimeout(resolve, 2))
    return this.received[type]
  }

  async reach (states) {
    while (!states.includes(this.state)) await new Promise(resolve => setTimeout(resolve, 2))
  }

  end () {
    this.stream.destroy()
    this.socket.destroy()
  }
}

// readable has bytes as hexadecimal.
function readable (value) {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (value instanceof Uint32Array) return Array.from(value)
  if (Array.isArray(value)) return value.map(readable)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, readable(v)]))
}
