package feed

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// TestDetachedProofsAreThoseOfJavaScript holds proofs that the package hypercore has made (see
// integration/js/detached.js) against ours, byte for byte: so it verifies ours, and we verify its.
func TestDetachedProofsAreThoseOfJavaScript(t *testing.T) {
	text, err := os.ReadFile("testdata/detached.json")
	if err != nil {
		t.Fatal(err)
	}
	type jsonStep struct {
		Truncate     *uint64
		Append       []string
		Length, Fork uint64
		TreeHash     vectors.Hex
		Proofs       []struct {
			Index    *uint64
			Upgrade  *uint64 // the length that was asked for; nil: the feed's
			Whole    bool
			Verified bool // by JavaScript
			Proof    vectors.Hex
		}
	}
	var file struct {
		Seed  vectors.Hex
		Feeds []struct {
			Name          string
			Key, Manifest vectors.Hex
			Steps         []jsonStep
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Feeds) != 6 {
		t.Fatalf("%d feeds", len(file.Feeds))
	}
	for _, feed := range file.Feeds {
		t.Run(feed.Name, func(t *testing.T) {
			manifest, err := ParseManifest(feed.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			key, pair := Key(feed.Key), KeyPairFromSeed([32]byte(file.Seed))
			f := create(t, memoryStore(), Options{Key: &key, KeyPair: &pair, Manifest: manifest})
			s := session(t, f)
			hashes := []Hash{f.Info().Hash}
			var blocks []string
			for _, step := range feed.Steps {
				if n := step.Truncate; n != nil {
					if _, err := s.Truncate(t.Context(), *n, TruncateOptions{}); err != nil {
						t.Fatal(err)
					}
					blocks, hashes = blocks[:*n], hashes[:*n+1]
				}
				if blocks = append(blocks, step.Append...); len(step.Append) > 0 {
					var values [][]byte
					for _, b := range step.Append {
						values = append(values, []byte(b))
					}
					appendBlocks(t, s, values...)
				}
				for n := uint64(len(hashes)); n <= step.Length; n++ {
					h, err := s.TreeHash(t.Context(), n)
					if err != nil {
						t.Fatal(err)
					}
					hashes = append(hashes, h)
				}
				head := f.Info().Head
				if head.Length != step.Length || head.Fork != step.Fork || !bytes.Equal(head.Hash[:], step.TreeHash) {
					t.Fatalf("head is %+v, want length %d of fork %d, hash %v", head, step.Length, step.Fork, step.TreeHash)
				}
				for _, c := range step.Proofs {
					length, index := step.Length, uint64(0)
					if c.Upgrade != nil {
						length = *c.Upgrade
					}
					if c.Index != nil {
						index = *c.Index
					}
					v, err := VerifyDetached(key, c.Proof)
					proven := hashes[length]
					if length != step.Length {
						proven = Hash{} // nobody has signed it
					}
					if err != nil || v.Head != head || v.Proven.Length != length || v.Proven.Hash != proven || v.HasBlock != (c.Index != nil) {
						t.Errorf("length %d of %d, block %d: %+v, %v", length, step.Length, index, v, err)
						continue
					}
					if v.HasBlock && (v.Index != index || string(v.Block) != blocks[index]) {
						t.Errorf("length %d: block %d is %q", length, v.Index, v.Block)
					}
					if v.FromProof == f.Info().Compat || c.Verified == f.Info().Compat {
						t.Errorf("length %d: manifest from the proof: %v, verified by JavaScript: %v", length, v.FromProof, c.Verified)
					}
					if c.Upgrade != nil {
						continue // ours are always of the whole feed
					}
					ours, err := f.ProveDetached(t.Context(), c.Index)
					if err != nil || !bytes.Equal(ours, c.Proof) {
						t.Errorf("length %d, block %d: ours is %x, %v; theirs %v", length, index, ours, err, c.Proof)
					}
				}
			}
		})
	}
}
