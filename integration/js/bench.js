'use strict'
// What the JavaScript implementation does on this machine, to be held against ours (make bench-js).
//
//   node bench.js          measures JavaScript: appends, replication between two processes over loopback TCP,
//                          and a store of many feeds, and prints a line for each
//   node bench.js --go     does the same with BenchmarkAppend, BenchmarkReplicate, BenchmarkManyFeeds and
//                          BenchmarkReplicateManyFeeds, after it, and prints the ratios: above 1, ours is better
//   --many                 measures the store of many feeds only
//   --replicate            measures replication only
//
// Replication is measured in pairs, JavaScript and ours in turns, because another program that uses the machine
// meanwhile changes what a single pair says. The line gives the medians, and of the ratios the median, the lowest and
// the highest. No pair is begun when those before have taken PAIRS_TIME seconds (240), but three there are always.
//
// JavaScript does not wait for the disk when it appends; ours is measured with and without.
const { spawn, spawnSync } = require('child_process')
const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')
const Corestore = require('corestore')
const manyFeeds = require('./manyfeeds.js')

const KiB = 1024
const appends = [
  { name: 'append 1 KiB, batches of 100', batch: 100, length: 50000, go: ['Append/batch100/durable', 'Append/batch100/NoSync'] },
  { name: 'append 1 KiB, one by one', batch: 1, length: 10000, go: ['Append/one/durable', 'Append/one/NoSync'] }
]
const replications = [
  { name: 'replicate 1 KiB', size: KiB, length: 20000, go: 'Replicate/TCP/processes/1KiB' },
  { name: 'replicate 64 KiB', size: 64 * KiB, length: 4000, go: 'Replicate/TCP/processes/64KiB' }
]
const pairs = 7
const minPairs = 3
const pairsTime = 1000 * Number(process.env.PAIRS_TIME || 240)

// inStore calls fn with a new store, which is deleted afterwards.
async function inStore (fn) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-js-'))
  const store = new Corestore(dir)
  try {
    await store.ready()
    return await fn(store)
  } finally {
    await store.close()
    fs.rmSync(dir, { recursive: true, force: true })
  }
}

// fill appends random blocks and returns the blocks per second.
async function fill (core, length, size, batch) {
  const blocks = Array.from({ length: batch }, () => crypto.randomBytes(size))
  const start = performance.now()
  for (let i = 0; i < length; i += batch) await core.append(batch === 1 ? blocks[0] : blocks)
  return length / (performance.now() - start) * 1000
}

function measureAppend ({ length, batch }) {
  return inStore(async store => {
    const core = store.get({ name: 'log' })
    await core.ready()
    return fill(core, length, KiB, batch)
  })
}

function connect (socket, stream) {
  socket.setNoDelay(true)
  socket.on('error', () => {})
  stream.on('error', () => {})
  socket.pipe(stream).pipe(socket)
}

// measureReplication serves a feed to another process, which downloads it and says how fast.
function measureReplication ({ length, size }) {
  return inStore(async store => {
    const core = store.get({ name: 'log' })
    await core.ready()
    await fill(core, length, size, Math.max(1, Math.min(100, KiB * KiB / size)))
    const server = net.createServer(socket => connect(socket, store.replicate(false)))
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
    const args = [__filename, '--download', server.address().port, core.key.toString('hex'), core.length]
    const child = spawn(process.execPath, args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] })
    let out = ''
    child.stdout.on('data', data => { out += data })
    const code = await new Promise(resolve => child.on('close', resolve))
    server.close()
    if (code !== 0) throw new Error('the downloading process failed')
    return Number(out)
  })
}

// download is the other process of measureReplication.
function download (port, key, length) {
  return inStore(async store => {
    const core = store.get({ key: Buffer.from(key, 'hex') })
    await core.ready()
    const start = performance.now()
    const socket = net.connect(port, '127.0.0.1')
    connect(socket, store.replicate(true))
    while (core.length < length) await core.update({ wait: true })
    await core.download({ start: 0, end: length }).done()
    console.log(length / (performance.now() - start) * 1000)
    socket.destroy()
  })
}

// goBench runs some of our benchmarks and returns their figures: by name, then by unit.
function goBench (dir, name, time) {
  const pattern = '^Benchmark' + name.split('/').map(part => part + '$').join('/^')
  const args = ['test', '-run', '^$', '-bench', pattern, '-benchtime', time, './' + dir]
  const root = path.join(__dirname, '..', '..')
  const env = { ...process.env, CGO_ENABLED: '0' } // as in make build
  const result = spawnSync(process.env.GO || 'go', args, { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  const found = {}
  for (const [, name, fields] of (result.stdout || '').matchAll(/^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$/gm)) {
    found[name] = {}
    for (const [, value, unit] of fields.matchAll(/([\d.e+-]+) (\S+)/g)) found[name][unit] = Number(value)
  }
  if (result.status !== 0 || Object.keys(found).length === 0) throw new Error('go ' + args.join(' ') + '\n' + result.stdout)
  return found
}

const goBlocks = (dir, name, time) => goBench(dir, name, time)[name]['blocks/s']

// print prints a line; ratios are those of several pairs, or left out.
function print (name, size, js, go, ratios = [go / js]) {
  const megabytes = (js * size / 1e6).toFixed(1)
  let line = `${name.padEnd(46)} js ${js.toFixed(0).padStart(8)} blocks/s ${megabytes.padStart(7)} MB/s`
  if (go) line += `   go ${go.toFixed(0).padStart(8)} blocks/s ${(go * size / 1e6).toFixed(1).padStart(7)} MB/s   × ${median(ratios).toFixed(1)}`
  if (ratios.length > 1) line += ` (${ratios.length} pairs: ${Math.min(...ratios).toFixed(1)} to ${Math.max(...ratios).toFixed(1)})`
  console.log(line)
}

function median (values) {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

// compareReplication measures JavaScript, and ours in turns with it.
async function compareReplication (r, compare) {
  if (!compare) return print(r.name, r.size, await measureReplication(r))
  const js = []
  const go = []
  const end = performance.now() + pairsTime
  while (js.length < pairs && (js.length < minPairs || performance.now() < end)) {
    js.push(await measureReplication(r))
    go.push(goBlocks('node', r.go, r.length + 'x'))
  }
  const ratios = go.map((blocks, i) => blocks / js[i])
  print(r.name, r.size, median(js), median(go), ratios)
}

async function compareManyFeeds (compare) {
  const js = await manyFeeds.measure()
  const go = compare ? { ...goBench('corestore', 'ManyFeeds', '1s'), ...goBench('node', 'ReplicateManyFeeds', '3x') } : {}
  for (const f of manyFeeds.figures) {
    let line = `${f.text.padEnd(46)} js ${js[f.name].toFixed(1).padStart(10)} ${f.unit}`
    if (compare) {
      const ours = go[f.go[0]][f.go[1]] * f.factor
      line += `   go ${ours.toFixed(1).padStart(10)} ${f.unit}`
      if (Math.min(js[f.name], ours) >= 1) line += `   × ${(js[f.name] / ours).toFixed(1)}` // less is nothing
    }
    console.log(line)
  }
}

async function main () {
  if (process.argv[2] === '--download') return download(...process.argv.slice(3).map((v, i) => i === 1 ? v : Number(v)))
  const compare = process.argv.includes('--go')
  if (process.argv.includes('--many')) return compareManyFeeds(compare)
  const some = process.argv.includes('--replicate')
  for (const a of some ? [] : appends) {
    const js = await measureAppend(a)
    if (!compare) print(a.name, KiB, js)
    else for (const name of a.go) print(`${a.name} (${name.split('/').pop()})`, KiB, js, goBlocks('feed', name, '2s'))
  }
  for (const r of replications) await compareReplication(r, compare)
  if (!some) await compareManyFeeds(compare)
}

main().then(() => process.exit(0), err => { console.error(err); process.exit(1) })
