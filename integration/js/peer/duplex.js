'use strict'
// toDuplex turns a js-libp2p stream into a Node Duplex, with back-pressure both ways, half-close and reset.
const { Duplex } = require('stream')

module.exports = function toDuplex (stream) {
  let waiting = null // callback of the write that waits for drain
  let ended = false

  const duplex = new Duplex({
    allowHalfOpen: true,
    read () {
      if (stream.readStatus === 'paused') stream.resume()
    },
    write (chunk, encoding, done) {
      let more
      try {
        more = stream.send(chunk)
      } catch (err) {
        return done(err)
      }
      if (more) return done()
      waiting = done
    },
    final (done) {
      stream.close().then(() => done(), done)
    },
    destroy (err, done) {
      // A stream that both sides have ended needs no reset.
      if (stream.status === 'open' || (err && stream.status === 'closing')) stream.abort(err || new Error('destroyed'))
      release(err)
      done(err)
    }
  })

  function release (err) {
    const done = waiting
    waiting = null
    if (done) done(err)
  }

  function end () {
    if (ended || duplex.destroyed) return
    ended = true
    duplex.push(null)
  }

  stream.addEventListener('message', ({ data }) => {
    const bytes = data.subarray()
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (!duplex.push(chunk) && stream.readStatus === 'readable') stream.pause()
  })
  stream.addEventListener('drain', () => release())
  stream.addEventListener('end', end)
  stream.addEventListener('close', ({ error }) => {
    if (error) duplex.destroy(error)
    else if (stream.readBufferLength === 0) end()
  })
  if (stream.readableEnded) queueMicrotask(end)
  return duplex
}
