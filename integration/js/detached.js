// Writes feed/testdata/detached.json: fully remote proofs as the JavaScript package makes them, and whether it
// verifies them itself. Seeds and blocks are fixed, so that another implementation makes the same bytes.
//
//   npm install && node detached.js > ../../feed/testdata/detached.json
//
// "whole" marks proofs of a feed with a prologue that were made as if it had none: the package widens an
// upgrade to the prologue, and then cannot prove a block past it; but it verifies such a proof.

const fs = require('fs')
const os = require('os')
const path = require('path')
const Hypercore = require('hypercore')
const crypto = require('hypercore-crypto')
const c = require('compact-encoding')
const remote = require('hypercore/lib/fully-remote-proof.js')
const messages = require('hypercore/lib/messages.js')

const blocks = ['hello', 'world', '', 'a longer block than the others', 'five', 'six', 'seven']
const seed = Buffer.alloc(32)
seed[0] = 7
const keyPair = crypto.keyPair(seed)
const signers = [{ publicKey: keyPair.publicKey }]

async function open (opts) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'detached-'))
  const core = new Hypercore(dir, { keyPair, ...opts })
  await core.ready()
  return [core, async () => { await core.close(); fs.rmSync(dir, { recursive: true }) }]
}

async function prove (core, { index = null, upgrade = null, whole = false }) {
  const block = index === null ? null : await core.get(index, { raw: true })
  const prologue = core.state.prologue
  if (whole) core.state.prologue = null
  const proof = await remote.proof(core, { index, block, upgrade })
  core.state.prologue = prologue
  const verified = await remote.verify(core.state.storage.store, proof)
  return { index, upgrade: upgrade && upgrade.length, whole, verified: verified !== null, proof: proof.toString('hex') }
}

// all returns proofs of the head with no block, with each block, and of the shorter lengths of longer feeds.
async function all (core, whole = false) {
  const out = [await prove(core, { whole })]
  for (let index = 0; index < core.length; index++) out.push(await prove(core, { index, whole }))
  for (let length = 1; length < core.length && core.length > 4 && !whole; length++) {
    out.push(await prove(core, { upgrade: { start: 0, length } }))
    out.push(await prove(core, { index: length - 1, upgrade: { start: 0, length } }))
  }
  return out
}

async function feed (name, opts, steps) {
  const [core, close] = await open(opts)
  const out = { name, key: core.key.toString('hex'), manifest: c.encode(messages.manifest, core.manifest).toString('hex'), steps: [] }
  for (const { append = [], truncate = null, whole } of steps) {
    if (truncate !== null) await core.truncate(truncate)
    if (append.length) await core.append(append.map((b) => Buffer.from(b)))
    out.steps.push({
      truncate, append, length: core.length, fork: core.fork, treeHash: (await core.treeHash()).toString('hex'),
      proofs: await all(core, whole)
    })
  }
  await close()
  return out
}

async function main () {
  const [plain, close] = await open({})
  await plain.append(blocks.slice(0, 3).map((b) => Buffer.from(b)))
  const prologue = { hash: await plain.treeHash(), length: 3 }
  await close()
  const feeds = [
    await feed('default', {}, blocks.map((b) => ({ append: [b] }))),
    await feed('forks', {}, [{ append: blocks }, { truncate: 4, append: ['again'] }, { truncate: 2 }]),
    await feed('version 0', { manifest: { version: 0, signers } }, [{ append: blocks.slice(0, 5) }]),
    await feed('version 2', { manifest: { version: 2, signers, userData: Buffer.from('more') } }, [{ append: blocks.slice(0, 5) }]),
    await feed('compat', { compat: true }, [{ append: blocks.slice(0, 5) }]),
    await feed('prologue', { manifest: { version: 1, signers, prologue } }, [{ append: blocks.slice(0, 3), whole: true }, { append: blocks.slice(3), whole: true }])
  ]
  const version = require('hypercore/package.json').version
  const out = { about: 'fully remote proofs, made by integration/js/detached.js', packages: { hypercore: version }, seed: seed.toString('hex'), feeds }
  process.stdout.write(JSON.stringify(out, null, 1) + '\n')
}

main()
