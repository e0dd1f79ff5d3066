'use strict'
// A JavaScript peer that the tests of package interop drive. A request is a line of JSON on stdin, {"id", "do", …}; its
// answer a line on descriptor 3, {"id", "result"} or {"id", "error"}. Requests overtake each other. Bytes are hexadecimal,
// or for blocks base64.
//
// What a peer of ours must never cause, such as an uncaught error or a proof that fails, is kept and handed out by "end",
// which also closes everything.
const crypto = require('crypto')
const fs = require('fs')
const readline = require('readline')
const Corestore = require('corestore')
const Hyperbee = require('hyperbee')
const Hypercore = require('hypercore')
const Hyperdrive = require('hyperdrive')
const Network = require('./network')
const Raw = require('./raw')

const answers = fs.createWriteStream(null, { fd: 3 })

// What the other side may ask for again, by number.
let things = []
let problems = []
let seen = new Set() // every core that was open

function keep (thing) {
  return things.push(thing) - 1
}

function report (what, err) {
  problems.push({ what, name: err && err.name, code: err && err.code, message: String((err && err.message) || err), stack: err && err.stack })
}

process.on('uncaughtException', err => report('uncaught', err))
process.on('unhandledRejection', err => report('unhandled', err))

const hex = buffer => buffer && buffer.toString('hex')
const unhex = text => text && Buffer.from(text, 'hex')

// content is what block index of a feed holds that fill has written.
function content (label, index, size) {
  return Buffer.alloc(size, `${label} ${index};`)
}

// until looks at something for which there is no event; whoever asks gives up by ending the process.
async function until (check) {
  while (!check()) await new Promise(resolve => setTimeout(resolve, 2))
}

// watched makes the failures that hypercore counts visible with their reason.
function watched (core) {
  seen.add(core)
  const { replicator } = core
  for (const [method, what] of [['_oninvaliddata', 'verification-error'], ['_oninvalidrequest', 'invalid-request']]) {
    const counted = replicator[method]
    replicator[method] = function (err, ...rest) {
      // A proof that is being verified when the core is closed fails for that.
      if (!core.destroyed) report(what, err)
      return counted.call(this, err, ...rest)
    }
  }
}

function stats (core) {
  const { wireSync, wireRequest, wireCancel, wireData, wireWant, wireUnwant, wireBitfield, wireRange, wireExtension, ...rest } = core.replicator.stats
  const named = { sync: wireSync, request: wireRequest, cancel: wireCancel, data: wireData, want: wireWant, unwant: wireUnwant, bitfield: wireBitfield, range: wireRange, extension: wireExtension }
  const out = { ...rest }
  for (const [name, { tx, rx }] of Object.entries(named)) {
    out[name + 'Sent'] = tx
    out[name + 'Received'] = rx
  }
  return out
}

function info (core) {
  return {
    key: hex(core.key),
    length: core.length,
    byteLength: core.byteLength,
    contiguousLength: core.contiguousLength,
    remoteContiguousLength: core.remoteContiguousLength,
    fork: core.fork,
    writable: core.writable,
    closed: core.closed || core.closing !== null,
    peers: core.peers.map(peer => ({
      synced: peer.remoteSynced,
      length: peer.remoteLength,
      fork: peer.remoteFork,
      contiguousLength: peer.remoteContiguousLength,
      downloading: peer.remoteDownloading,
      allowPush: peer.remoteAllowPush
    }))
  }
}

const commands = {
  async open ({ dir, primaryKey }) {
    const store = new Corestore(dir, primaryKey ? { primaryKey: unhex(primaryKey), unsafe: true } : {})
    store.watch(watched)
    await store.ready()
    return keep({ store, network: new Network(store, report) })
  },
  async close ({ store }) {
    const { store: s, network } = things[store]
    await network.end()
    await s.close()
  },
  listen: ({ store }) => things[store].network.listen(),
  connect: ({ store, port }) => things[store].network.connect(port),
  listenLibp2p: ({ store }) => things[store].network.listenLibp2p(),
  dial: ({ store, address }) => things[store].network.dial(address),
  offline: ({ store }) => things[store].network.end(),

  async get ({ store, namespaces, key, manifest, encryptionKey, seed, ...opts }) {
    if (key) opts.key = unhex(key)
    if (manifest) opts.manifest = Hypercore.parseManifest(unhex(manifest))
    if (encryptionKey) opts.encryption = { key: unhex(encryptionKey) }
    if (seed) opts.keyPair = keyPair(seed)
    const within = (namespaces || []).reduce((s, name) => s.namespace(name), things[store].store)
    const core = within.get(opts)
    await core.ready()
    const received = new Map() // extension name to messages
    const conflicts = []
    core.on('conflict', (length, fork) => conflicts.push({ length, fork }))
    return { core: keep({ core, received, conflicts }), ...info(core) }
  },
  info: ({ core }) => info(things[core].core),
  stats: ({ core }) => stats(things[core].core.core),
  async end () {
    const counters = []
    for (const { bee, drive } of things) {
      if (bee) await bee.close()
      if (drive) await drive.close()
    }
    for (const { network } of things) if (network) await network.end()
    for (const { raw } of things) if (raw) raw.end()
    for (const core of seen) counters.push({ discoveryKey: hex(core.discoveryKey), ...stats(core) })
    for (const { store } of things) if (store) await store.close()
    const out = { problems, counters }
    things = []
    problems = []
    seen = new Set()
    return out
  },

  async append ({ core, blocks, signature }) {
    const c = things[core].core
    await c.append(blocks.map(b => Buffer.from(b, 'base64')), signature ? { signature: unhex(signature) } : {})
    return info(c)
  },
  async fill ({ core, label, start, end, size }) {
    const c = things[core].core
    const batch = Math.max(1, Math.min(1000, Math.floor((4 << 20) / (size || 1))))
    for (let i = start; i < end; i += batch) {
      await c.append(Array.from({ length: Math.min(batch, end - i) }, (_, j) => content(label, i + j, size)))
    }
    return info(c)
  },
  async copyPrologue ({ core, from }) {
    await things[core].core.core.copyPrologue(things[from].core.state)
  },
  async manifest ({ core }) {
    const { core: c } = things[core]
    await until(() => c.manifest !== null)
    return c.getManifest({ raw: true }).toString('base64')
  },
  async truncate ({ core, length }) {
    await things[core].core.truncate(length)
    return info(things[core].core)
  },
  async clear ({ core, start, end }) {
    await things[core].core.clear(start, end)
    return info(things[core].core)
  },
  async block ({ core, index, ...opts }) {
    const block = await things[core].core.get(index, opts)
    return block && block.toString('base64')
  },
  // check tells which of the stored blocks is not what fill has written, or -1.
  async check ({ core, label, start, end, size }) {
    for (let i = start; i < end; i++) {
      const block = await things[core].core.get(i, { wait: false })
      if (!block || !block.equals(content(label, i, size))) return i
    }
    return -1
  },
  has: ({ core, start, end }) => things[core].core.has(start, end),
  update: ({ core, wait = true }) => things[core].core.update({ wait }),
  download: ({ core, start, end, linear = false }) => things[core].core.download({ start, end, linear }).done(),
  // follow downloads whatever there is and comes, and does not wait for it.
  follow ({ core }) {
    things[core].core.download({ start: 0, end: -1 })
  },
  seek: ({ core, bytes }) => things[core].core.seek(bytes),
  async bytes ({ core, offset, length }) {
    const chunks = []
    for await (const chunk of things[core].core.createByteStream({ byteOffset: offset, byteLength: length })) chunks.push(chunk)
    return Buffer.concat(chunks).toString('base64')
  },
  // tail does not wait for the end of the stream, which would wait for one more block.
  tail ({ core, start, count }) {
    const stream = things[core].core.createReadStream({ start, live: true })
    const blocks = []
    return new Promise((resolve, reject) => {
      stream.on('error', reject)
      stream.on('data', block => {
        if (blocks.push(block.toString('base64')) < count) return
        resolve(blocks)
        stream.destroy()
      })
    })
  },
  async treeHash ({ core, length }) {
    return hex(await things[core].core.treeHash(length))
  },
  async signable ({ core, length, fork }) {
    return hex(await things[core].core.signable(length, fork))
  },
  // reach waits until the core is in a state: at least as long, exactly of a fork, and so on.
  async reach ({ core, length = 0, contiguousLength = 0, remoteContiguousLength = 0, remoteLength = 0, fork = -1, peers = -1, synced = 0, conflict = false }) {
    const { core: c, conflicts } = things[core]
    await until(() => conflict
      ? conflicts.length > 0 || c.closed
      : c.length >= length && c.contiguousLength >= contiguousLength && c.remoteContiguousLength >= remoteContiguousLength &&
        (fork === -1 || c.fork === fork) && (peers === -1 || c.peers.length === peers) &&
        c.peers.filter(peer => peer.remoteSynced).length >= synced && (remoteLength === 0 || c.peers.some(peer => peer.remoteLength >= remoteLength)))
    return info(c)
  },
  async closeCore ({ core }) {
    await things[core].core.close()
  },

  allowPush ({ core, on }) {
    things[core].core.core.replicator.setAllowPush(on)
  },
  // lazy is the option eagerUpgrade: false.
  lazy ({ core }) {
    things[core].core.core.replicator.eagerUpgrade = false
  },
  async push ({ core, index }) {
    for (const peer of things[core].core.peers) await peer.push(index)
  },
  // extension registers one. null is hypercore's own encoding, which puts the length before the bytes.
  extension ({ core, name, encoding = 'binary' }) {
    const messages = []
    things[core].received.set(name, messages)
    things[core].core.registerExtension(name, { encoding, onmessage: message => messages.push(hex(message)) })
  },
  extend ({ core, name, message }) {
    things[core].core.extensions.get(name).broadcast(unhex(message))
  },
  async extended ({ core, name, count }) {
    const messages = things[core].received.get(name)
    await until(() => messages.length >= count)
    return messages
  },

  // bee and drive open an application of a key, or a new one; its number is also that of its core.
  async bee ({ store, key, name }) {
    const core = things[store].store.get(key ? { key: unhex(key) } : { name })
    const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'utf-8' })
    await bee.ready()
    return { core: keep({ bee, core, received: new Map(), conflicts: [] }), key: hex(core.key) }
  },
  async beeWrite ({ core, put = [], remove = [] }) {
    const batch = things[core].bee.batch()
    for (const [key, value] of put) await batch.put(key, value)
    for (const key of remove) await batch.del(key)
    await batch.flush()
    return info(things[core].core)
  },
  async beeList ({ core }) {
    const entries = []
    for await (const { key, value } of things[core].bee.createReadStream()) entries.push([key, value])
    return entries
  },
  async drive ({ store, key }) {
    const drive = new Hyperdrive(things[store].store.session(), unhex(key))
    await drive.ready()
    return { core: keep({ drive, core: drive.core, received: new Map(), conflicts: [] }), key: hex(drive.key) }
  },
  async drivePut ({ core, path, data }) {
    await things[core].drive.put(path, Buffer.from(data, 'base64'))
  },
  async driveRemove ({ core, path }) {
    await things[core].drive.del(path)
  },
  // driveCores returns the states of the two cores of a drive that is written here.
  async driveCores ({ core }) {
    const { core: blobs } = await things[core].drive.getBlobs()
    return [info(things[core].core), info(blobs)]
  },
  async driveList ({ core }) {
    const files = {}
    for await (const { key } of things[core].drive.list('/')) {
      files[key] = crypto.createHash('sha256').update(await things[core].drive.get(key)).digest('hex')
    }
    return files
  },

  async raw ({ port, key, wrong }) {
    return keep({ raw: await Raw.connect({ port, key: unhex(key), wrong }) })
  },
  rawSend ({ raw, messages }) {
    things[raw].raw.send(messages)
  },
  rawReceive: ({ raw, type, count }) => things[raw].raw.receive(type, count),
  rawState: ({ raw, states }) => things[raw].raw.reach(states)
}

function keyPair (seed) {
  return require('hypercore-crypto').keyPair(unhex(seed))
}

async function perform ({ id, do: name, ...args }) {
  const answer = { id }
  try {
    answer.result = await commands[name](args)
    if (answer.result === undefined) answer.result = null
  } catch (err) {
    answer.error = { name: err.name, code: err.code, message: err.message, stack: err.stack }
  }
  answers.write(JSON.stringify(answer) + '\n')
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', line => perform(JSON.parse(line)))
lines.on('close', () => {
  answers.end()
  process.exit(problems.length > 0 ? 1 : 0)
})
