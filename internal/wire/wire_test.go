package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

func TestParseIsTheInverseOfAppend(t *testing.T) {
	t.Parallel()
	nodes := []merkle.Node{{Index: 3, Size: 1 << 40, Hash: merkle.Hash{1}}, {Index: flattree.Index(1 << 50), Hash: merkle.Hash{9}}}
	for _, m := range []Message{
		&Sync{Fork: 1, Length: 300, RemoteLength: 70000, CanUpgrade: true, AllowPush: true},
		&Sync{Uploading: true, Downloading: true, HasManifest: true},
		&Request{ID: 7, Priority: 1, Request: merkle.Request{Fork: 2, Block: &merkle.BlockRequest{Index: 5, Nodes: 3}}},
		&Request{ID: 1, Request: merkle.Request{
			Hash: &merkle.HashRequest{Index: 9, Nodes: 1}, Seek: &merkle.SeekRequest{Bytes: 1000, Padding: 8},
			Upgrade: &merkle.UpgradeRequest{Start: 1, Length: 2}, Manifest: true,
		}},
		&Cancel{ID: 4},
		&Data{ID: 1, Proof: merkle.Proof{Fork: 3, Block: &merkle.BlockProof{Index: 2, Value: []byte("v"), Nodes: nodes}}},
		&Data{Proof: merkle.Proof{
			Hash: &merkle.HashProof{Index: 2, Nodes: nodes}, Seek: &merkle.SeekProof{Bytes: 4},
			Upgrade:  &merkle.UpgradeProof{Start: 1, Length: 8, Nodes: nodes, Additional: nodes[:1], Signature: []byte("sig")},
			Manifest: []byte("manifest"),
		}},
		&NoData{ID: 1}, &NoData{ID: 1, Reason: ReasonInvalidRequest},
		&Want{Start: 4096, Length: 4096}, &Want{Length: 32, Any: true}, &Unwant{Start: 32, Length: 32},
		&Bitfield{Start: 64, Words: []uint32{1, math.MaxUint32}},
		&Range{Start: 1, Length: 1}, &Range{Drop: true, Start: 1, Length: 9}, &Range{},
		&Extension{Name: "ext", Message: []byte("payload")},
	} {
		b := m.Append(nil)
		if len(b) > m.Size() {
			t.Errorf("%#v: %d bytes, Size says at most %d", m, len(b), m.Size())
		}
		got, err := Parse(m.Type(), b)
		if err != nil {
			t.Errorf("%#v: %v", m, err)
			continue
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("parsed %#v, want %#v", got, m)
		}
	}
}

func TestParseRefusesMoreNodesThanATreeHas(t *testing.T) {
	t.Parallel()
	m := &Data{Proof: merkle.Proof{Block: &merkle.BlockProof{Nodes: make([]merkle.Node, maxNodes+1)}}}
	if _, err := Parse(TypeData, m.Append(nil)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}

func TestParseUnknownType(t *testing.T) {
	t.Parallel()
	if _, err := Parse(10, []byte{0}); !errors.Is(err, ErrUnknownType) {
		t.Errorf("got %v, want ErrUnknownType", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(uint64(0), []byte{0, 0, 0, 0})
	f.Add(uint64(1), []byte{0x3f, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1})
	f.Add(uint64(3), (&Data{Proof: merkle.Proof{Block: &merkle.BlockProof{Value: []byte("x"), Nodes: make([]merkle.Node, 2)}}}).Append(nil))
	f.Add(uint64(7), []byte{0, 1, 1, 2, 3, 4})
	f.Add(uint64(9), []byte{1, 'a', 'b'})
	f.Fuzz(func(t *testing.T, typ uint64, b []byte) {
		m, err := Parse(typ%11, b)
		if err != nil {
			return
		}
		first := m.Append(nil)
		if len(first) > m.Size() {
			t.Fatalf("%d bytes, Size says at most %d", len(first), m.Size())
		}
		again, err := Parse(m.Type(), first)
		if err != nil {
			t.Fatalf("what was written does not parse: %v", err)
		}
		if second := again.Append(nil); !bytes.Equal(first, second) {
			t.Fatalf("wrote %x, then %x", first, second)
		}
	})
}

func BenchmarkParseData(b *testing.B) {
	m := &Data{ID: 1, Proof: merkle.Proof{Block: &merkle.BlockProof{Value: make([]byte, 1024), Nodes: make([]merkle.Node, 2)}}}
	frame := m.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(TypeData, frame); err != nil {
			b.Fatal(err)
		}
	}
}
