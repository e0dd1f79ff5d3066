package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

type wireVector struct {
	Type    string
	Index   *uint64
	Value   json.RawMessage
	Decoded json.RawMessage
	Hex     vectors.Hex
	Note    string
	OK      *bool
}

type jsonNode struct {
	Index uint64
	Size  uint64
	Hash  vectors.Hex
}

func toNodes(in []jsonNode) []merkle.Node {
	var out []merkle.Node
	for _, n := range in {
		out = append(out, merkle.Node{Index: flattree.Index(n.Index), Size: n.Size, Hash: merkle.Hash(n.Hash)})
	}
	return out
}

// value builds what a vector's JSON describes: a Message or a Handshake.
func value(t *testing.T, typ string, raw json.RawMessage) any {
	t.Helper()
	into := func(v any) {
		t.Helper()
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatalf("%s %s: %v", typ, raw, err)
		}
	}
	switch typ {
	case "handshake":
		var v struct {
			Seeks      bool
			Capability vectors.Hex
		}
		into(&v)
		return Handshake{Seeks: v.Seeks, Capability: [32]byte(v.Capability)}
	case "sync":
		v := &Sync{}
		into(v)
		return v
	case "request":
		var v struct {
			ID, Fork, Priority uint64
			Block              *merkle.BlockRequest
			Hash               *merkle.HashRequest
			Seek               *merkle.SeekRequest
			Upgrade            *merkle.UpgradeRequest
			Manifest           bool
		}
		into(&v)
		return &Request{ID: v.ID, Priority: v.Priority, Request: merkle.Request{
			Fork: v.Fork, Block: v.Block, Hash: v.Hash, Seek: v.Seek, Upgrade: v.Upgrade, Manifest: v.Manifest,
		}}
	case "cancel":
		var v struct{ Request uint64 }
		into(&v)
		return &Cancel{ID: v.Request}
	case "noData":
		var v struct{ Request, Reason uint64 }
		into(&v)
		return &NoData{ID: v.Request, Reason: v.Reason}
	case "want":
		v := &Want{}
		into(v)
		return v
	case "unwant":
		v := &Unwant{}
		into(v)
		return v
	case "bitfield":
		var v struct {
			Start    uint64
			Bitfield []uint32
		}
		into(&v)
		return &Bitfield{Start: v.Start, Words: v.Bitfield}
	case "range":
		v := &Range{}
		into(v)
		return v
	case "extension":
		var v struct {
			Name    string
			Message vectors.Hex
		}
		into(&v)
		return &Extension{Name: v.Name, Message: v.Message}
	}
	t.Fatalf("vector of unknown type %q", typ)
	return nil
}

// data builds a Data; its manifest, which the vectors give as fields, is taken from the bytes.
func data(t *testing.T, raw json.RawMessage, encoded []byte) *Data {
	t.Helper()
	var v struct {
		Request, Fork uint64
		Block         *struct {
			Index uint64
			Value vectors.Hex
			Nodes []jsonNode
		}
		Hash *struct {
			Index uint64
			Nodes []jsonNode
		}
		Seek *struct {
			Bytes uint64
			Nodes []jsonNode
		}
		Upgrade *struct {
			Start, Length          uint64
			Nodes, AdditionalNodes []jsonNode
			Signature              vectors.Hex
		}
		Manifest json.RawMessage
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("data %s: %v", raw, err)
	}
	m := &Data{ID: v.Request, Proof: merkle.Proof{Fork: v.Fork}}
	if b := v.Block; b != nil {
		m.Proof.Block = &merkle.BlockProof{Index: b.Index, Value: b.Value, Nodes: toNodes(b.Nodes)}
	}
	if b := v.Hash; b != nil {
		m.Proof.Hash = &merkle.HashProof{Index: flattree.Index(b.Index), Nodes: toNodes(b.Nodes)}
	}
	if b := v.Seek; b != nil {
		m.Proof.Seek = &merkle.SeekProof{Bytes: b.Bytes, Nodes: toNodes(b.Nodes)}
	}
	if b := v.Upgrade; b != nil {
		m.Proof.Upgrade = &merkle.UpgradeProof{
			Start: b.Start, Length: b.Length, Nodes: toNodes(b.Nodes),
			Additional: toNodes(b.AdditionalNodes), Signature: b.Signature,
		}
	}
	if len(v.Manifest) > 0 && string(v.Manifest) != "null" {
		rest := len(m.Append(nil))
		m.Proof.Manifest = encoded[rest:]
		if encoded[rest] > 3 || len(encoded) <= rest+2 {
			t.Errorf("manifest does not begin where the other fields end: %x", encoded)
		}
	}
	return m
}

func TestVectorsWire(t *testing.T) {
	t.Parallel()
	var file struct {
		Messages     []wireVector
		Decode       []wireVector
		MessageIndex map[string]uint64 `json:"message_index"`
	}
	vectors.Load(t, "wire.json", &file)
	if len(file.Messages) == 0 || len(file.Decode) == 0 || len(file.MessageIndex) != 10 {
		t.Fatal("file without vectors")
	}

	want := func(v wireVector, raw json.RawMessage) any {
		if v.Type == "data" {
			return data(t, raw, v.Hex)
		}
		return value(t, v.Type, raw)
	}
	decode := func(v wireVector) (any, error) {
		if v.Type == "handshake" {
			return ParseHandshake(v.Hex)
		}
		return Parse(file.MessageIndex[v.Type], v.Hex)
	}
	for _, v := range file.Messages {
		if v.Type == "reorgHint" { // exists in the reference implementation, never on a channel
			continue
		}
		in := want(v, v.Value)
		if got := in.(interface{ Append([]byte) []byte }).Append(nil); !bytes.Equal(got, v.Hex) {
			t.Errorf("%s %s: encoded %x, want %s", v.Type, v.Value, got, v.Hex)
		}
		got, err := decode(v)
		if err != nil {
			t.Errorf("%s %s: %v", v.Type, v.Hex, err)
			continue
		}
		if m, ok := got.(Message); ok && (v.Index == nil || m.Type() != *v.Index) {
			t.Errorf("%s has type %d", v.Type, m.Type())
		}
		if w := want(v, v.Decoded); !equal(got, w) {
			t.Errorf("%s %s: decoded %+v, want %+v", v.Type, v.Hex, got, w)
		}
	}
	for _, v := range file.Decode {
		got, err := decode(v)
		if (err == nil) != *v.OK {
			t.Errorf("%s %s (%s): error %v, want ok=%v", v.Type, v.Hex, v.Note, err, *v.OK)
		}
		if err == nil {
			if w := want(v, v.Decoded); !equal(got, w) {
				t.Errorf("%s %s (%s): decoded %+v, want %+v", v.Type, v.Hex, v.Note, got, w)
			}
		}
	}
}

// equal compares by what is written, so that nil and empty lists are one.
func equal(a, b any) bool {
	x, y := a.(interface{ Append([]byte) []byte }), b.(interface{ Append([]byte) []byte })
	return reflect.TypeOf(a) == reflect.TypeOf(b) && bytes.Equal(x.Append(nil), y.Append(nil))
}
