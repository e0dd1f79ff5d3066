package interop

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// heirs are setups for an owner, a mirror and an heir: writer, middle and reader. Each is on both networks, and who
// dials takes turns.
func heirs() (all []setup) {
	kinds := [][3]kind{{js, ours, js}, {js, ours, ours}, {js, js, ours}, {ours, js, js}, {ours, js, ours}, {ours, ours, js}, {ours, ours, ours}}
	if *baseline {
		kinds = [][3]kind{{js, js, js}}
	}
	for i, k := range kinds {
		for j, n := range []network{tcp, libp2p} {
			all = append(all, setup{n, k[0], k[2], (i+j)%2 > 0, k[1]})
		}
	}
	return all
}

// A store of a primary key writes feeds and is gone. What is left is a mirror, which knows their public keys only. A new
// store of the same primary key is their writer by the same names, takes the blocks in from the mirror and goes on, and
// the mirror follows it in the same fork. Twice, so that the second heir gets what two writers have signed.
func TestTheSamePrimaryKeyWritesOnWhatWasMirrored(t *testing.T) {
	const blocks, size = 25, 60
	stage(t, heirs(), func(s *scene) {
		var primary [32]byte
		rand.Read(primary[:])
		names := []opening{
			{name: "log"},
			{name: "log", namespaces: []string{"chat"}},
			{name: "log", namespaces: []string{"chat", "room"}},
		}
		owner, mirror := s.partyOf(s.setup.writer, &primary), s.party(s.middle)
		var keys []feed.Key
		var mirrored []log
		for i, name := range names {
			w := owner.open(name)
			w.fill(name.label(), 0, blocks+i, size)
			keys = append(keys, w.key())
			m := mirror.open(keyed(w.key()))
			m.follow()
			mirrored = append(mirrored, m)
		}
		s.chain(owner, mirror)
		for i, m := range mirrored {
			m.reach(state{contiguous: blocks + i})
		}
		owner.stop()

		for generation := range 2 {
			heir := s.partyOf(s.setup.reader, &primary)
			var inherited []log
			for i, name := range names {
				w := heir.open(name)
				equal(s.T, fmt.Sprint("key of ", name.label()), w.key(), keys[i])
				equal(s.T, "writable, before anything has come", w.info().Writable, true)
				equal(s.T, "length, before anything has come", w.info().Length, 0)
				inherited = append(inherited, w)
			}
			s.chain(mirror, heir)
			for i, w := range inherited {
				label, length := names[i].label(), blocks+i+generation*blocks
				w.reach(state{length: length})
				w.download(0, length)
				w.check(label, 0, length, size)
				w.fill(label, length, length+blocks, size)
				length += blocks
				mirrored[i].reach(state{contiguous: length})
				mirrored[i].check(label, 0, length, size)
				equal(s.T, "length in the mirror", mirrored[i].info().Length, length)
				equal(s.T, "fork of the heir", w.info().Fork, 0)
				equal(s.T, "fork in the mirror", mirrored[i].info().Fork, 0)
				equal(s.T, "tree", mirrored[i].treeHash(length), w.treeHash(length))
			}
			heir.stop()
		}
	})
}

// label tells the feeds of different namespaces apart.
func (o opening) label() string { return fmt.Sprint(o.namespaces, " ", o.name) }
