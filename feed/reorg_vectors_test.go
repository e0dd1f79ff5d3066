package feed

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/vectors"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// jsonReader is the state of a reader, and of the writer as far as it is recorded.
type jsonReader struct {
	jsonState
	Signature vectors.Hex
	Nodes     []uint64
}

func (j *jsonReader) compare(t *testing.T, name string, f *Feed, limit uint64) {
	t.Helper()
	compareState(t, name, f, limit, &j.jsonState)
	if got := f.head.signature; !bytes.Equal(got, j.Signature) {
		t.Errorf("%s: signature %x, want %v", name, got, j.Signature)
	}
	if got := nodesBelow(t, f, 2*limit); j.Nodes != nil && !slices.Equal(got, j.Nodes) {
		t.Errorf("%s: nodes %v, want %v", name, got, j.Nodes)
	}
}

// A writer truncates and appends, a reader follows: what each sends, and stores, is what was recorded.
func TestVectorsReorg(t *testing.T) {
	type message struct {
		RequestHex vectors.Hex `json:"request_hex"`
		DataHex    vectors.Hex `json:"data_hex"`
		After      struct {
			Finished     bool
			Ancestors    uint64
			Want         *struct{ Nodes, Start, End uint64 }
			Length, Fork uint64
		}
	}
	var v struct {
		Reorgs []struct {
			Name                string
			Key, Manifest, Seed vectors.Hex
			Blocks              []vectors.Hex
			NewBlocks           []vectors.Hex `json:"new_blocks"`
			Sync, Steps, Fill   []message
			ReaderBefore        jsonReader `json:"reader_before"`
			ReaderAfter         jsonReader `json:"reader_after"`
			WriterAfter         jsonReader `json:"writer_after"`
		}
	}
	vectors.Load(t, "reorg.json", &v)
	if len(v.Reorgs) == 0 {
		t.Fatal("no reorgs")
	}
	for _, c := range v.Reorgs {
		onStores(t, func(t *testing.T, ds datastore.Batching) {
			ctx := t.Context()
			key, pair := Key(c.Key), KeyPairFromSeed([32]byte(c.Seed))
			manifest, err := ParseManifest(c.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			w := create(t, memoryStore(), Options{Key: &key, KeyPair: &pair, Manifest: manifest})
			ws := session(t, w)
			appendBlocks(t, ws, bytesOf(c.Blocks)...)
			r := create(t, ds, Options{Key: &key})
			answer := func(name string, m *message) *Proof {
				if m.RequestHex == nil { // is not recorded while the reader syncs
					return parseProof(t, m.DataHex)
				}
				id, req := parseRequest(t, m.RequestHex)
				if data := (&wire.Data{ID: id, Proof: *prove(t, w, req)}).Append(nil); !bytes.Equal(data, m.DataHex) {
					t.Errorf("%s: writer proves %x, want %v", name, data, m.DataHex)
				}
				return parseProof(t, m.DataHex)
			}
			take := func(part string, ms []message) {
				for i := range ms {
					name := fmt.Sprintf("%s, %s %d", c.Name, part, i)
					if a := apply(t, r, answer(name, &ms[i]))[0]; a.Err != nil {
						t.Fatalf("%s: %v", name, a.Err)
					}
				}
			}
			take("sync", c.Sync)
			limit := uint64(len(c.Blocks) + len(c.NewBlocks))
			c.ReaderBefore.compare(t, c.Name+", before", r, limit)
			before := r.Info().Head

			kept := c.WriterAfter.Length - uint64(len(c.NewBlocks))
			if _, err := ws.Truncate(ctx, kept, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			if len(c.NewBlocks) > 0 {
				appendBlocks(t, ws, bytesOf(c.NewBlocks)...)
			}
			c.WriterAfter.compare(t, c.Name+", writer", w, limit)

			var g *Reorg
			for i := range c.Steps {
				name, want := fmt.Sprintf("%s, step %d", c.Name, i), c.Steps[i].After
				p := answer(name, &c.Steps[i])
				if i == 0 {
					if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrStaleFork) {
						t.Errorf("%s: applied: %v", name, a.Err)
					}
					wrong := *p
					wrong.Fork++
					if _, err := r.Reorg(ctx, &wrong); !errors.Is(err, ErrInvalidSignature) {
						t.Errorf("%s: another fork: %v", name, err)
					}
					if g, err = r.Reorg(ctx, p); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				} else if err := g.Verify(ctx, p); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, more := g.Want()
				if h := g.Head(); more == want.Finished || g.Ancestors() != want.Ancestors || h.Length != want.Length || h.Fork != want.Fork {
					t.Errorf("%s: want %+v %v, ancestors %d, head %+v; recorded %+v", name, got, more, g.Ancestors(), h, want)
				}
				if more && (want.Want == nil || got.Start != want.Want.Start || got.End != want.Want.End || got.Nodes != want.Want.Nodes) {
					t.Errorf("%s: want %+v, recorded %+v", name, got, want.Want)
				}
			}
			if r.Info().Head != before {
				t.Errorf("%s: the search has changed the feed", c.Name)
			}
			if err := g.Apply(ctx); err != nil {
				t.Fatal(err)
			}
			c.ReaderAfter.compare(t, c.Name+", after", r, limit)
			take("fill", c.Fill)
			if got := r.Info(); got.Head != w.Info().Head {
				t.Errorf("%s: filled: %+v", c.Name, got)
			}
		})
	}
}
