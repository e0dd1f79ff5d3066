package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/vectors"
	"github.com/p2pcore/p2pcore/internal/wire"

	datastore "github.com/ipfs/go-datastore"
)

func parseRequest(t *testing.T, b []byte) (uint64, Request) {
	t.Helper()
	m, err := wire.Parse(wire.TypeRequest, b)
	if err != nil {
		t.Fatal(err)
	}
	r := m.(*wire.Request)
	return r.ID, r.Request
}

func parseProof(t *testing.T, b []byte) *Proof {
	t.Helper()
	m, err := wire.Parse(wire.TypeData, b)
	if err != nil {
		t.Fatal(err)
	}
	return &m.(*wire.Data).Proof
}

type jsonState struct {
	Length, Fork, ByteLength uint64
	TreeHash                 vectors.Hex
	Roots, Blocks            []uint64
	ContiguousLength         *uint64
}

func TestVectorsScenarios(t *testing.T) {
	var v struct {
		Scenarios []struct {
			Name                string
			Compat              bool
			Key, Seed, Manifest vectors.Hex
			InitialLength       uint64 `json:"initial_length"`
			Blocks              []vectors.Hex
			Steps               []struct {
				Note       string
				RequestHex vectors.Hex `json:"request_hex"`
				DataHex    vectors.Hex `json:"data_hex"`
				Tampered   bool
				Applied    *bool
				Error      *string
				NewNodes   []uint64 `json:"new_nodes"`
				After      *jsonState
				Quirk      *string
				Seek       *uint64
				Result     []uint64
				Blocks     []vectors.Hex
				Length     uint64      `json:"writer_length"`
				TreeHash   vectors.Hex `json:"writer_treeHash"`
				Signature  vectors.Hex `json:"writer_signature"`
			}
		}
	}
	vectors.Load(t, "scenarios.json", &v)
	for _, sc := range v.Scenarios {
		onStores(t, func(t *testing.T, ds datastore.Batching) {
			key := Key(sc.Key)
			pair := KeyPairFromSeed([32]byte(sc.Seed))
			manifest, err := ParseManifest(sc.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			w := create(t, memoryStore(), Options{Key: &key, KeyPair: &pair, Manifest: manifest})
			ws := session(t, w)
			appendBlocks(t, ws, bytesOf(sc.Blocks)...)
			r := create(t, ds, Options{Key: &key})
			stored := nodesBelow(t, r, 2*sc.InitialLength)
			for i, step := range sc.Steps {
				name := fmt.Sprintf("%s, step %d, %s", sc.Name, i, step.Note)
				switch {
				case step.Seek != nil:
					index, offset, err := session(t, r).Seek(t.Context(), *step.Seek)
					if step.Result == nil { // not enough nodes to tell
						if !errors.Is(err, ErrNotAvailable) {
							t.Errorf("%s: seek %d = %d, %d, %v, want ErrNotAvailable", name, *step.Seek, index, offset, err)
						}
						continue
					}
					if err != nil || index != step.Result[0] || offset != step.Result[1] {
						t.Errorf("%s: seek %d = %d, %d, %v, want %v", name, *step.Seek, index, offset, err, step.Result)
					}
					continue
				case step.DataHex == nil:
					appendBlocks(t, ws, bytesOf(step.Blocks)...)
					head := w.Info().Head
					if head.Length != step.Length || !bytes.Equal(head.Hash[:], step.TreeHash) || !bytes.Equal(w.head.signature, step.Signature) {
						t.Fatalf("%s: writer's head is %+v", name, head)
					}
					continue
				}
				if !step.Tampered {
					id, req := parseRequest(t, step.RequestHex)
					data := (&wire.Data{ID: id, Proof: *prove(t, w, req)}).Append(nil)
					if !bytes.Equal(data, step.DataHex) && step.Quirk == nil {
						t.Errorf("%s: writer proves %x, want %v", name, data, step.DataHex)
					}
				}
				before := r.Info()
				a := apply(t, r, parseProof(t, step.DataHex))[0]
				if want := *step.Applied; (a.Err == nil) != want && step.Quirk == nil {
					t.Fatalf("%s: %v, want applied = %v", name, a.Err, want)
				}
				if step.Error != nil && !isKind(a.Err, *step.Error) && step.Quirk == nil {
					t.Errorf("%s: %v, want %s", name, a.Err, *step.Error)
				}
				if a.Err != nil && r.Info().Head != before.Head {
					t.Errorf("%s: refused, but the head moved", name)
				}
				now := nodesBelow(t, r, 2*sc.InitialLength)
				var added []uint64
				for _, at := range now {
					if !slices.Contains(stored, at) {
						added = append(added, at)
					}
				}
				stored = now
				if step.NewNodes != nil && !slices.Equal(added, step.NewNodes) && step.Quirk == nil {
					t.Errorf("%s: new nodes %v, want %v", name, added, step.NewNodes)
				}
				compareState(t, name, r, sc.InitialLength, step.After)
			}
			r = reopen(t, r, ds, Options{})
			compareState(t, sc.Name+", reopened", r, sc.InitialLength, sc.Steps[len(sc.Steps)-1].After)
		})
	}
}

func bytesOf(hs []vectors.Hex) (out [][]byte) {
	for _, h := range hs {
		out = append(out, h)
	}
	return out
}

// isKind compares an error with the name that JavaScript has for it. A node that the proof should
// hang on and that is not stored is an invalid operation there; here it may have been right when it
// was asked for.
func isKind(err error, kind string) bool {
	switch kind {
	case "INVALID_OPERATION", "INVALID_PROOF":
		return errors.Is(err, ErrInvalidProof) || errors.Is(err, ErrStale)
	case "INVALID_CHECKSUM":
		return errors.Is(err, ErrInvalidChecksum)
	case "INVALID_SIGNATURE":
		return errors.Is(err, ErrInvalidSignature)
	}
	return false
}

// compareState compares a feed with the state of a vector, which lists blocks below limit only.
func compareState(t *testing.T, name string, f *Feed, limit uint64, want *jsonState) {
	t.Helper()
	if want == nil {
		return
	}
	got := f.Info()
	if got.Length != want.Length || got.Fork != want.Fork {
		t.Errorf("%s: length %d of fork %d, want %d of %d", name, got.Length, got.Fork, want.Length, want.Fork)
	}
	if want.TreeHash != nil && !bytes.Equal(got.Hash[:], want.TreeHash) {
		t.Errorf("%s: tree hash %x, want %v", name, got.Hash, want.TreeHash)
	}
	if want.ContiguousLength == nil {
		return
	}
	if got.ContiguousLength != *want.ContiguousLength || got.ByteLength != want.ByteLength {
		t.Errorf("%s: contiguous %d of %d bytes, want %d, %d", name, got.ContiguousLength, got.ByteLength, *want.ContiguousLength, want.ByteLength)
	}
	var blocks []uint64
	for r := range f.Ranges(Range{End: min(got.Length, limit)}) {
		for i := r.Start; i < r.End; i++ {
			blocks = append(blocks, i)
		}
	}
	if !slices.Equal(blocks, want.Blocks) {
		t.Errorf("%s: blocks %v, want %v", name, blocks, want.Blocks)
	}
	var roots []uint64
	for _, n := range f.tree.Roots() {
		roots = append(roots, uint64(n.Index))
	}
	if !slices.Equal(roots, want.Roots) {
		t.Errorf("%s: roots %v, want %v", name, roots, want.Roots)
	}
}

// nodesBelow lists the nodes with an index below end that are stored, or would be by JavaScript, which does not
// tell those apart whose sizes nobody vouches for.
func nodesBelow(t *testing.T, f *Feed, end uint64) (stored []uint64) {
	t.Helper()
	at := make([]flattree.Index, end)
	for i := range at {
		at[i] = flattree.Index(i)
	}
	v := anchors{f.viewLocked(), &f.hints}
	nodes := make([]Node, end)
	if err := v.ReadNodes(t.Context(), at, nodes); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		if !nodes[i].Missing() {
			stored = append(stored, uint64(i))
		}
	}
	return stored
}

func TestVectorsProofs(t *testing.T) {
	var v struct {
		Cores []struct {
			Key, Seed, Manifest, Signature vectors.Hex
			Length, Fork, ByteLength       uint64
			TreeHash                       vectors.Hex
			Blocks                         []vectors.Hex
			Static                         bool
			Cases                          []struct {
				RequestHex vectors.Hex `json:"request_hex"`
				Request    struct {
					Block, Hash *struct{ Index, Nodes uint64 }
					Seek        *struct{ Bytes, Padding uint64 }
					Upgrade     *struct{ Start, Length uint64 }
				}
				Manifest  bool
				DataHex   vectors.Hex `json:"data_hex"`
				FromEmpty *jsonState  `json:"from_empty"`
				Error     *string
				Quirk     *string
			}
			ReaderSteps []struct {
				Note    string
				DataHex vectors.Hex `json:"data_hex"`
				Applied bool
				Error   *string
				After   *jsonState
			} `json:"reader_steps"`
		}
	}
	vectors.Load(t, "proofs.json", &v)
	for n, core := range v.Cores {
		onStores(t, func(t *testing.T, ds datastore.Batching) {
			key := Key(core.Key)
			pair := KeyPairFromSeed([32]byte(core.Seed))
			manifest, err := ParseManifest(core.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			opts := Options{Key: &key, Manifest: manifest}
			blocks := bytesOf(core.Blocks)
			if !core.Static {
				opts.KeyPair = &pair
			}
			w := create(t, ds, opts)
			if core.Static {
				fillStatic(t, w, blocks)
			} else {
				appendBlocks(t, session(t, w), blocks...)
			}
			if h := w.Info().Head; !bytes.Equal(h.Hash[:], core.TreeHash) || h.Length != core.Length || h.ByteLength != core.ByteLength {
				t.Fatalf("core %d: head %+v", n, h)
			}
			for i, c := range core.Cases {
				name := fmt.Sprintf("core %d, case %d", n, i)
				req := Request{Fork: core.Fork, Manifest: c.Manifest}
				if c.Request.Block != nil {
					req.Block = &BlockRequest{Index: c.Request.Block.Index, Nodes: c.Request.Block.Nodes}
				}
				if c.Request.Hash != nil {
					req.Hash = &HashRequest{Index: flattree.Index(c.Request.Hash.Index), Nodes: c.Request.Hash.Nodes}
				}
				if c.Request.Seek != nil {
					req.Seek = &SeekRequest{Bytes: c.Request.Seek.Bytes, Padding: c.Request.Seek.Padding}
				}
				if c.Request.Upgrade != nil {
					req.Upgrade = &UpgradeRequest{Start: c.Request.Upgrade.Start, Length: c.Request.Upgrade.Length}
				}
				proved, err := w.Prove(t.Context(), []Request{req})
				if err != nil {
					t.Fatal(err)
				}
				if c.Error != nil {
					want := ErrInvalidRequest
					if *c.Error == "block not available" {
						want = ErrNotAvailable
					}
					if !errors.Is(proved[0].Err, want) {
						t.Errorf("%s: %v, want %v (%s)", name, proved[0].Err, want, *c.Error)
					}
					continue
				}
				if proved[0].Err != nil {
					t.Errorf("%s: %v", name, proved[0].Err)
					continue
				}
				got := (&wire.Data{ID: 1, Proof: *proved[0].Proof}).Append(nil)
				if !bytes.Equal(got, c.DataHex) && c.Quirk == nil {
					t.Errorf("%s, %+v: proof %x, want %v", name, c.Request, got, c.DataHex)
				}
				if c.FromEmpty == nil {
					continue
				}
				r := create(t, memoryStore(), Options{Key: &key, Manifest: manifest})
				if a := apply(t, r, parseProof(t, c.DataHex))[0]; a.Err != nil {
					t.Errorf("%s: %v", name, a.Err)
				}
				compareState(t, name, r, core.Length, c.FromEmpty)
			}
			r := create(t, memoryStore(), Options{Key: &key})
			for i, step := range core.ReaderSteps {
				name := fmt.Sprintf("core %d, reader step %d, %s", n, i, step.Note)
				a := apply(t, r, parseProof(t, step.DataHex))[0]
				if (a.Err == nil) != step.Applied || step.Error != nil && !isKind(a.Err, *step.Error) {
					t.Errorf("%s: %v, want applied = %v", name, a.Err, step.Applied)
				}
				compareState(t, name, r, core.Length, step.After)
			}
		})
	}
}

// fillStatic brings the blocks of a prologue into a feed that nobody can sign for: the proofs of any
// feed with the same blocks will do.
func fillStatic(t *testing.T, f *Feed, blocks [][]byte) {
	t.Helper()
	pair := NewKeyPair()
	other := create(t, memoryStore(), Options{KeyPair: &pair})
	appendBlocks(t, session(t, other), blocks...)
	p := prove(t, other, Request{Upgrade: &UpgradeRequest{Length: uint64(len(blocks))}})
	p.Upgrade.Signature = nil
	if a := apply(t, f, p)[0]; a.Err != nil {
		t.Fatal(a.Err)
	}
	for i := range blocks {
		fetch(t, other, f, uint64(i))
	}
	if err := f.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
}
