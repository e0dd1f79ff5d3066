// Writes feed/testdata/detached.json: fully remote proofs as the JavaScript package makes them, each verified
// by it before. The feed is that of the seed 07 00 00 … and the blocks below, so that another
// implementation makes the same bytes.
//
//   node detached.js > ../../feed/testdata/detached.json

const fs = require('fs')
const os = require('os')
const path = require('path')
const Hypercore = require('hypercore')
const crypto = require('hypercore-crypto')
const remote = require('hypercore/lib/fully-remote-proof.js')

const blocks = ['hello', 'world', '', 'a longer block than the others', 'five', 'six', 'seven']

async function main () {
  const seed = Buffer.alloc(32)
  seed[0] = 7
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'detached-'))
  const core = new Hypercore(dir, { keyPair: crypto.keyPair(seed) })
  await core.ready()
  const proofs = []
  for (let n = 0; n < blocks.length; n++) {
    await core.append(Buffer.from(blocks[n]))
    const cases = [{}]
    for (let i = 0; i <= n; i++) cases.push({ index: i, block: Buffer.from(blocks[i]) })
    for (const c of cases) {
      const proof = await remote.proof(core, c)
      if (!(await remote.verify(core.state.storage.store, proof))) throw new Error('not verified')
      proofs.push({ length: n + 1, index: c.block ? c.index : null, proof: proof.toString('hex') })
    }
  }
  const version = require('hypercore/package.json').version
  const out = { about: 'fully remote proofs, made by integration/js/detached.js', packages: { hypercore: version }, seed: seed.toString('hex'), key: core.key.toString('hex'), blocks, proofs }
  await core.close()
  fs.rmSync(dir, { recursive: true })
  process.stdout.write(JSON.stringify(out, null, 1) + '\n')
}

main()
