'use strict'
// A store of many feeds: opening it, listing it, the memory of closed and open feeds, and the replication of some of them
// over one stream in memory. BenchmarkManyFeeds and BenchmarkReplicateManyFeeds do the same.
const fs = require('fs')
const os = require('os')
const path = require('path')
const v8 = require('v8')
const vm = require('vm')
const Corestore = require('corestore')

const stored = 10000
const shared = 1000
const openings = 10 // of the store, whose mean counts

v8.setFlagsFromString('--expose_gc')
const gc = vm.runInNewContext('gc')

// heap returns the bytes in use on the heap and by buffers outside of it. What RocksDB allocates is not among them, nor
// are the caches of the embedded store among ours.
async function heap () {
  for (let i = 0; i < 3; i++) {
    gc()
    await new Promise(resolve => setImmediate(resolve)) // finalizers
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

async function timed (fn) {
  const start = performance.now()
  await fn()
  return (performance.now() - start) / 1000
}

async function opened (dir) {
  const store = new Corestore(dir)
  await store.ready()
  return store
}

async function make (dir) {
  const store = await opened(dir)
  const keys = []
  for (let i = 0; i < stored; i++) {
    const core = store.get({ name: String(i) })
    await core.ready()
    await core.append(Buffer.from('block'))
    keys.push(core.key)
    await core.close()
  }
  await store.close()
  return keys
}

async function list (store) {
  let n = 0
  for await (const discoveryKey of store.list()) n += discoveryKey.byteLength / 32
  if (n !== stored) throw new Error(`${n} feeds listed, want ${stored}`)
}

async function memory (dir) {
  const before = await heap()
  const store = await opened(dir)
  await list(store)
  const closed = await heap()
  const cores = []
  for (let i = 0; i < stored; i++) {
    const core = store.get({ name: String(i) })
    await core.ready()
    cores.push(core)
  }
  const open = await heap()
  await store.close()
  return { closed: Math.max(closed - before, 0) / stored, open: (open - closed) / cores.length }
}

// replicate returns the seconds until the first of the stored feeds, which nobody has open, are in another store.
async function replicate (from, to, keys) {
  const cores = []
  for (const key of keys.slice(0, shared)) {
    const core = to.get({ key })
    await core.ready()
    cores.push(core)
  }
  const here = to.replicate(true)
  const there = from.replicate(false)
  for (const stream of [here, there]) stream.on('error', () => {})
  const seconds = await timed(() => {
    here.pipe(there).pipe(here)
    return Promise.all(cores.map(core => core.get(0)))
  })
  here.destroy()
  there.destroy()
  return seconds
}

// measure returns what BenchmarkManyFeeds and BenchmarkReplicateManyFeeds tell, by the same names.
async function measure () {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-js-'))
  try {
    const keys = await make(path.join(dir, 'from'))
    let store
    let start = 0
    for (let i = 0; i < openings; i++) {
      if (store) await store.close()
      start += await timed(async () => { store = await opened(path.join(dir, 'from')) })
    }
    start /= openings
    const listing = await timed(() => list(store))
    await store.close()
    const { closed, open } = await memory(path.join(dir, 'from'))
    store = await opened(path.join(dir, 'from'))
    const other = await opened(path.join(dir, 'to'))
    const replication = await replicate(store, other, keys)
    await other.close()
    await store.close()
    return { start: start * 1000, list: listing * 1000, closed, open, replicate: replication * 1000 }
  } finally {
    fs.rmSync(dir, { recursive: true, force: true })
  }
}

// figures are the lines that are printed; go says where ours are, and factor brings them to the unit.
const figures = [
  { name: 'start', text: `open a store of ${stored} feeds`, unit: 'ms', go: ['ManyFeeds/start', 'ns/op'], factor: 1e-6 },
  { name: 'list', text: `list its ${stored} feeds`, unit: 'ms', go: ['ManyFeeds/list', 'ns/op'], factor: stored * 1e-6 },
  { name: 'closed', text: 'memory of a closed feed', unit: 'bytes', go: ['ManyFeeds/memory', 'B/closed-feed'], factor: 1 },
  { name: 'open', text: 'memory of an open feed', unit: 'bytes', go: ['ManyFeeds/memory', 'B/open-feed'], factor: 1 },
  { name: 'replicate', text: `replicate ${shared} of its feeds`, unit: 'ms', go: ['ReplicateManyFeeds', 'ns/op'], factor: 1e-6 }
]

module.exports = { measure, figures }
