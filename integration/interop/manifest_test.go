package interop

import (
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// council signs for a feed whose signers are no machine of the scenario.
type council struct {
	*scene
	manifest *feed.Manifest
	pairs    []feed.KeyPair
	draft    *goLog // the same blocks
}

// convene makes a manifest of n signers.
func (s *scene) convene(n, quorum int) *council {
	s.Helper()
	c := &council{scene: s, manifest: &feed.Manifest{Version: 1, Quorum: quorum}, draft: newGo(s.T, s.ctx).session(opening{})}
	for i := range n {
		c.pairs = append(c.pairs, feed.KeyPairFromSeed([32]byte{byte(i + 1)}))
		c.manifest.Signers = append(c.manifest.Signers, feed.Signer{Namespace: feed.DefaultNamespace(), PublicKey: c.pairs[i].Public()})
	}
	return c
}

func (c *council) key() feed.Key { return c.manifest.Key() }

// pin makes the blocks of the draft the prologue.
func (c *council) pin() {
	head := c.draft.Session.Info().Head
	c.manifest.Prologue = &feed.Prologue{Hash: head.Hash, Length: head.Length}
}

// sign appends the blocks to the draft and returns the signature of some signers, by number, over that.
func (c *council) sign(blocks []string, signers ...int) []byte {
	c.Helper()
	if len(blocks) > 0 {
		c.draft.append(blocks...)
	}
	var parts []feed.Partial
	for _, i := range signers {
		part, err := feed.SignPartial(c.pairs[i], c.key(), c.manifest, c.draft.Session.Info().Head)
		if err != nil {
			c.Fatal(err)
		}
		parts = append(parts, part)
	}
	return c.assemble(parts)
}

func (c *council) assemble(parts []feed.Partial) []byte {
	c.Helper()
	signature, err := feed.Assemble(c.manifest, parts)
	if err != nil {
		c.Fatal(err)
	}
	return signature
}

// A feed that two of three sign; the reader knows its key.
func TestSeveralSigners(t *testing.T) {
	play(t, setups(), func(s *scene) {
		c := s.convene(3, 2)
		w := s.writer.open(opening{manifest: c.manifest})
		equal(s.T, "key", w.key(), c.key())
		first := []string{"a", "b", "c"}
		w.appendSigned(c.sign(first, 0, 2), first...)
		r := s.reader.open(keyed(c.key()))
		s.join()
		r.download(0, 3)
		// Others sign what comes then.
		second := []string{"d", "e"}
		w.appendSigned(c.sign(second, 1, 2), second...)
		equal(s.T, "block", r.get(4), "e")
		equal(s.T, "block", r.get(0), "a")
		equal(s.T, "tree", r.treeHash(5), c.draft.treeHash(5))
	})
}

// The signers are at different lengths: what both have signed counts, and the patch shows that it is the same feed.
func TestSignersAheadOfEachOther(t *testing.T) {
	play(t, across(), func(s *scene) {
		c := s.convene(2, 2)
		c.manifest.AllowPatch = true
		w := s.writer.open(opening{manifest: c.manifest})
		blocks := []string{"a", "b", "c", "d", "e", "f", "g"}
		c.draft.append(blocks[:5]...)
		behind, err := feed.SignPartial(c.pairs[0], c.key(), c.manifest, c.draft.Session.Info().Head)
		if err != nil {
			s.Fatal(err)
		}
		c.draft.append(blocks[5:]...)
		ahead, err := c.draft.SignPartial(s.ctx, c.pairs[1], c.key(), c.manifest, 5)
		if err != nil {
			s.Fatal(err)
		}
		w.appendSigned(c.assemble([]feed.Partial{behind, ahead}), blocks[:5]...)
		r := s.reader.open(keyed(c.key()))
		s.join()
		r.download(0, 5)
		equal(s.T, "block", r.get(4), "e")
		equal(s.T, "length", r.info().Length, 5)
	})
}

// The first blocks are those that the manifest names, and need no signature.
func TestPrologue(t *testing.T) {
	play(t, setups(), func(s *scene) {
		c := s.convene(1, 1)
		first := []string{"a", "b", "c", "d", "e"}
		c.draft.append(first...)
		c.pin()
		w := s.writer.open(opening{manifest: c.manifest})
		w.prologue(first...)
		r := s.reader.open(keyed(c.key()))
		s.join()
		equal(s.T, "block of the prologue", r.get(3), "d")
		then := []string{"f", "g"}
		w.appendSigned(c.sign(then, 0), then...)
		equal(s.T, "block past it", r.get(6), "g")
		r.download(0, 7)
		equal(s.T, "tree", r.treeHash(7), c.draft.treeHash(7))
	})
}

// A reader that comes when there is more than the prologue.
func TestPrologueAndMore(t *testing.T) {
	play(t, across(), func(s *scene) {
		c := s.convene(2, 2)
		first := []string{"a", "b", "c"}
		c.draft.append(first...)
		c.pin()
		w := s.writer.open(opening{manifest: c.manifest})
		w.prologue(first...)
		then := []string{"d", "e", "f", "g"}
		w.appendSigned(c.sign(then, 0, 1), then...)
		r := s.reader.open(keyed(c.key()))
		s.join()
		equal(s.T, "block past the prologue", r.get(5), "f")
		r.download(0, 7)
		equal(s.T, "block of the prologue", r.get(1), "b")
	})
}

// A feed that nobody signs has the blocks of its manifest and no others.
func TestStatic(t *testing.T) {
	play(t, across(), func(s *scene) {
		c := s.convene(0, 0)
		blocks := []string{"a", "b", "c", "d", "e", "f"}
		c.draft.append(blocks...)
		c.pin()
		w := s.writer.open(opening{manifest: c.manifest})
		w.prologue(blocks...)
		r := s.reader.open(keyed(c.key()))
		s.join()
		r.download(0, 6)
		equal(s.T, "block", r.get(5), "f")
	})
}

// The manifest comes before there is any block, and is handed on by who has nothing else.
func TestManifestOfAnEmptyFeed(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		relay := s.relay()
		between := relay.open(keyed(w.key()))
		between.follow()
		r := s.reader.open(keyed(w.key()))
		s.chain(s.writer, relay, s.reader)
		equal(s.T, "manifest", r.manifest(), w.manifest())
		equal(s.T, "length", r.info().Length, 0)
		w.append("first")
		equal(s.T, "block", r.get(0), "first")
	})
}
