package compact

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// entry is one recorded value. Which Go type the value has depends on type.
type entry struct {
	Type     string
	Value    json.RawMessage
	Hex      vectors.Hex
	OK       bool
	Consumed int
	Error    string
}

// codec is one type of value: how a recorded value is written, and how it is
// read into something comparable as JSON.
type codec struct {
	append func(t *testing.T, b []byte, value json.RawMessage) []byte
	read   func(d *Decoder) any
}

func of[V any](app func([]byte, V) []byte, read func(*Decoder) any) codec {
	return codec{
		append: func(t *testing.T, b []byte, value json.RawMessage) []byte {
			t.Helper()
			var v V
			if err := json.Unmarshal(value, &v); err != nil {
				t.Fatal(err)
			}
			return app(b, v)
		},
		read: read,
	}
}

const noLimit = 1 << 30

// list reads an array whose elements take at least elemSize bytes.
func list[V any](elemSize int, elem func(*Decoder) V) func(*Decoder) any {
	return func(d *Decoder) any {
		v := []V{}
		for range d.Count(elemSize) {
			v = append(v, elem(d))
		}
		return v
	}
}

func appendList[V any](elem func([]byte, V) []byte) func([]byte, []V) []byte {
	return func(b []byte, v []V) []byte {
		b = AppendUint(b, uint64(len(v)))
		for _, e := range v {
			b = elem(b, e)
		}
		return b
	}
}

func appendRaw(b []byte, v vectors.Hex) []byte   { return append(b, v...) }
func appendBytes(b []byte, v vectors.Hex) []byte { return AppendBytes(b, v) }

func fixed32(d *Decoder) vectors.Hex {
	v := d.Fixed32()
	return v[:]
}

var codecs = map[string]codec{
	"uint":   of(AppendUint, func(d *Decoder) any { return d.Uint() }),
	"uint8":  of(func(b []byte, v uint8) []byte { return append(b, v) }, func(d *Decoder) any { return d.Uint8() }),
	"uint16": of(AppendUint16, func(d *Decoder) any { return d.Uint16() }),
	"uint24": of(AppendUint24, func(d *Decoder) any { return d.Uint24() }),
	"uint32": of(AppendUint32, func(d *Decoder) any { return d.Uint32() }),
	"uint64": of(AppendUint64, func(d *Decoder) any { return d.Uint64() }),
	"int":    of(AppendInt, func(d *Decoder) any { return d.Int() }),
	"bool":   of(AppendBool, func(d *Decoder) any { return d.Bool() }),
	"buffer": of(appendBytes, func(d *Decoder) any { return vectors.Hex(d.Bytes(noLimit)) }),
	"optionalBuffer": of(appendBytes, func(d *Decoder) any {
		return vectors.Hex(d.OptionalBytes(noLimit))
	}),
	"string":  of(AppendString, func(d *Decoder) any { return d.String(noLimit) }),
	"fixed32": of(appendRaw, func(d *Decoder) any { return fixed32(d) }),
	"fixed64": of(appendRaw, func(d *Decoder) any {
		v := d.Fixed64()
		return vectors.Hex(v[:])
	}),
	"raw":           of(appendRaw, func(d *Decoder) any { return vectors.Hex(d.Rest()) }),
	"uint32array":   of(AppendWords, func(d *Decoder) any { return d.Words(noLimit) }),
	"array_uint":    of(appendList(AppendUint), list(1, (*Decoder).Uint)),
	"array_fixed32": of(appendList(appendRaw), list(32, fixed32)),
	"array_string":  of(appendList(AppendString), list(1, func(d *Decoder) string { return d.String(noLimit) })),
}

func TestVectorsCompactEncoding(t *testing.T) {
	var file map[string]json.RawMessage
	vectors.Load(t, "compact-encoding.json", &file)
	for name, part := range file {
		if name == "about" || name == "packages" {
			continue
		}
		var entries []entry
		if err := json.Unmarshal(part, &entries); err != nil || len(entries) == 0 {
			t.Fatalf("%s: %d entries, %v", name, len(entries), err)
		}
		for _, e := range entries {
			switch name {
			case "decode":
				checkDecode(t, e)
			case "encode_errors":
				checkRefused(t, e)
			case "fixed_width":
				checkBoth(t, e)
			default:
				e.Type = name
				checkBoth(t, e)
			}
		}
	}
}

func lookUp(t *testing.T, name string) codec {
	t.Helper()
	c, ok := codecs[name]
	if !ok {
		t.Fatalf("no codec for type %q", name)
	}
	return c
}

// checkBoth compares the bytes of a value, and the value of the bytes.
func checkBoth(t *testing.T, e entry) {
	t.Helper()
	c := lookUp(t, e.Type)
	if got := c.append(t, []byte{7}, e.Value); !bytes.Equal(got[1:], e.Hex) {
		t.Errorf("%s: bytes of %s = %x, want %s", e.Type, e.Value, got[1:], e.Hex)
	}
	e.OK, e.Consumed = true, len(e.Hex)
	if e.Type == "optionalBuffer" && string(e.Value) == `""` {
		e.Value = json.RawMessage("null")
	}
	checkDecode(t, e)
	if e.Type == "raw" {
		return
	}
	// Nothing shorter is a value, and bytes that follow do not matter.
	for n := range e.Hex {
		d := NewDecoder(e.Hex[:n])
		if c.read(&d); !errors.Is(d.Err(), ErrShort) {
			t.Errorf("%s: error of the first %d bytes of %s = %v, want ErrShort", e.Type, n, e.Hex, d.Err())
		}
	}
	e.Hex = append(slices.Clone(e.Hex), 0xff)
	checkDecode(t, e)
}

func checkDecode(t *testing.T, e entry) {
	t.Helper()
	d := NewDecoder(e.Hex)
	v := lookUp(t, e.Type).read(&d)
	if !e.OK {
		want := map[string]error{
			"Out of bounds":    ErrShort,
			"Array is too big": ErrTooLong,
			"uint must be between 0 and 9007199254740991, use biguint": ErrRange,
		}[e.Error]
		if want == nil || !errors.Is(d.Err(), want) {
			t.Errorf("%s: error of %s = %v, want %v (%s)", e.Type, e.Hex, d.Err(), want, e.Error)
		}
		return
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if d.Err() != nil || !sameJSON(t, got, e.Value) || d.Offset() != e.Consumed {
		t.Errorf("%s: value of %s = %s, %d bytes, %v; want %s, %d bytes", e.Type, e.Hex, got, d.Offset(), d.Err(), e.Value, e.Consumed)
	}
}

// checkRefused checks that no value comes out of an encoder.
func checkRefused(t *testing.T, e entry) {
	t.Helper()
	if e.Type != "uint" {
		t.Fatalf("no refusals known for type %q", e.Type)
	}
	var text string
	if err := json.Unmarshal(e.Value, &text); err != nil {
		t.Fatal(err)
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	// A negative number becomes a large one on its way to AppendUint.
	if !panics(func() { AppendUint(nil, uint64(v)) }) {
		t.Errorf("AppendUint(%s) did not panic", text)
	}
}

// sameJSON compares two JSON texts without rounding numbers.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	plain := func(text []byte) string {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	return plain(a) == plain(b)
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
