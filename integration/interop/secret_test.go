package interop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// sealed is what encryption adds to each block.
const sealed = 8

// Who has the key reads, through somebody who has not.
func TestEncryptedThroughBlindRelay(t *testing.T) {
	const blocks, size = 60, 33
	play(t, setups(), func(s *scene) {
		secret := feed.EncryptionKey{1, 2, 3}
		w := s.writer.open(opening{encryptionKey: &secret})
		w.fill("secret", 0, blocks, size)
		key := w.key()
		relay := s.relay()
		blind := relay.open(keyed(key))
		blind.follow()
		r := s.reader.open(opening{key: &key, encryptionKey: &secret})
		s.chain(s.writer, relay, s.reader)
		r.download(0, blocks)
		r.check("secret", 0, blocks, size)
		equal(s.T, "bytes for who has the key", r.info().ByteLength, blocks*size)
		blind.reach(state{contiguous: blocks})
		equal(s.T, "bytes for who has not", blind.info().ByteLength, blocks*(size+sealed))
		stored := blind.raw(7)
		equal(s.T, "stored", string(stored), string(w.raw(7)))
		equal(s.T, "stored bytes", len(stored), size+sealed)
		equal(s.T, "readable", bytes.Contains(stored, []byte("secret")), false)
		equal(s.T, "tree", blind.treeHash(blocks), w.treeHash(blocks))
	})
}

// A reader without the key stores what it cannot read.
func TestEncryptedWithoutTheKey(t *testing.T) {
	play(t, across(), func(s *scene) {
		secret := feed.EncryptionKey{4}
		w := s.writer.open(opening{encryptionKey: &secret})
		w.append("", "secret", strings.Repeat("secret", 1000))
		r := s.reader.open(keyed(w.key()))
		s.join()
		for i := range 3 {
			equal(s.T, "stored", r.get(i), string(w.raw(i)))
		}
		equal(s.T, "bytes", r.info().ByteLength, 6006+3*sealed)
		equal(s.T, "tree", r.treeHash(3), w.treeHash(3))
	})
}

// Offsets are those of the plaintext, for whoever has the key, although the peers that help to find them do not.
func TestEncryptedSeek(t *testing.T) {
	const blocks = 200
	play(t, across(), func(s *scene) {
		secret := feed.EncryptionKey{5}
		w := s.writer.open(opening{encryptionKey: &secret})
		layout := uneven(w, blocks)
		key := w.key()
		r := s.reader.open(opening{key: &key, encryptionKey: &secret})
		s.join()
		r.reach(state{length: blocks})
		layout.seek(s.T, r, 0, 1, 700, 2999, layout.total()-1)
		equal(s.T, "bytes", string(r.bytes(1234, 5678)), layout.text[1234:1234+5678])
	})
}

// A rewritten block has another nonce, and both sides agree about it.
func TestEncryptedReorg(t *testing.T) {
	play(t, across(), func(s *scene) {
		secret := feed.EncryptionKey{6}
		w := s.writer.open(opening{encryptionKey: &secret})
		w.fill("old", 0, 20, 40)
		key := w.key()
		r := s.reader.open(opening{key: &key, encryptionKey: &secret})
		s.join()
		r.download(0, 20)
		before := r.raw(15)
		w.truncate(12)
		w.fill("old", 12, 20, 40)
		r.reach(state{fork: 1, length: 20})
		r.download(0, 20)
		r.check("old", 0, 20, 40)
		equal(s.T, "same ciphertext", bytes.Equal(before, r.raw(15)), false)
	})
}
