package compact

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"unicode/utf8"
)

func TestFirstErrorSticks(t *testing.T) {
	d := NewDecoder([]byte{0x05, 1, 2, 0xff, 0xff})
	if got := d.Bytes(100); got != nil || !errors.Is(d.Err(), ErrShort) {
		t.Fatalf("Bytes = %v, %v; want ErrShort", got, d.Err())
	}
	at := d.Offset()
	f32, f64 := d.Fixed32(), d.Fixed64()
	if d.Uint() != 0 || d.Int() != 0 || d.Uint8() != 0 || d.Uint16() != 0 || d.Uint24() != 0 || d.Uint32() != 0 || d.Uint64() != 0 ||
		d.Bool() || f32 != [32]byte{} || f64 != [64]byte{} || d.Bytes(0) != nil || d.OptionalBytes(9) != nil || d.String(0) != "" ||
		d.Count(0) != 0 || d.Words(9) != nil || d.Rest() != nil || d.Remaining() != 0 {
		t.Error("a read after the error returned a value")
	}
	if !errors.Is(d.Err(), ErrShort) || d.Offset() != at {
		t.Errorf("error, offset = %v, %d; want ErrShort, %d", d.Err(), d.Offset(), at)
	}
}

func TestLimits(t *testing.T) {
	cases := []struct {
		name string
		in   []byte
		read func(d *Decoder)
		want error
	}{
		{"bytes at the limit", []byte{2, 'a', 'b'}, func(d *Decoder) { d.Bytes(2) }, nil},
		{"bytes past the limit", []byte{3, 'a', 'b', 'c'}, func(d *Decoder) { d.Bytes(2) }, ErrTooLong},
		{"bytes past a limit below zero", []byte{1, 'a'}, func(d *Decoder) { d.Bytes(-1) }, ErrTooLong},
		{"huge length", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0}, func(d *Decoder) { d.Bytes(math.MaxInt) }, ErrShort},
		{"optional past the limit", []byte{3, 'a', 'b', 'c'}, func(d *Decoder) { d.OptionalBytes(2) }, ErrTooLong},
		{"string past the limit", []byte{3, 'a', 'b', 'c'}, func(d *Decoder) { _ = d.String(2) }, ErrTooLong},
		{"words past the limit", []byte{2, 0, 0, 0, 0, 0, 0, 0, 0}, func(d *Decoder) { d.Words(1) }, ErrTooLong},
		{"words past the input", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0}, func(d *Decoder) { d.Words(math.MaxInt) }, ErrShort},
		{"count that just fits", []byte{2, 1, 2, 3, 4}, func(d *Decoder) { d.Count(2) }, nil},
		{"count that does not fit", []byte{2, 1, 2, 3}, func(d *Decoder) { d.Count(2) }, ErrShort},
		{"count of nothing", append([]byte{0xfe, 0, 0, 0x10, 0}, 1), func(d *Decoder) { d.Count(0) }, nil},
		{"count too high", append([]byte{0xfe, 1, 0, 0x10, 0}, make([]byte, 1<<21)...), func(d *Decoder) { d.Count(1) }, ErrTooLong},
		{"uint64 too high", []byte{0, 0, 0, 0, 0, 0, 0x20, 0}, func(d *Decoder) { d.Uint64() }, ErrRange},
		{"rest of nothing", nil, func(d *Decoder) { d.Rest() }, nil},
	}
	for _, c := range cases {
		d := NewDecoder(c.in)
		if c.read(&d); !errors.Is(d.Err(), c.want) {
			t.Errorf("%s: error = %v, want %v", c.name, d.Err(), c.want)
		}
	}
}

func TestEmptyIsNotAbsent(t *testing.T) {
	for _, in := range [][]byte{{0}, {0, 9}} {
		d := NewDecoder(in)
		if got := d.Bytes(0); got == nil || len(got) != 0 {
			t.Errorf("Bytes = %#v, want empty and not nil", got)
		}
	}
	d := NewDecoder([]byte{0})
	if got := d.OptionalBytes(0); got != nil || d.Err() != nil {
		t.Errorf("OptionalBytes = %#v, %v; want nil, nil", got, d.Err())
	}
	d = NewDecoder(nil)
	if got := d.Rest(); got == nil || len(got) != 0 {
		t.Errorf("Rest = %#v, want empty and not nil", got)
	}
}

func TestBytesAliasButDoNotGrowIntoTheInput(t *testing.T) {
	in := []byte{1, 'a', 'b'}
	d := NewDecoder(in)
	got := d.Bytes(1)
	in[1] = 'x'
	if string(got) != "x" {
		t.Errorf("Bytes = %q, want the input's own byte", got)
	}
	_ = append(got, 'y')
	if in[2] != 'b' {
		t.Error("appending to the result changed the input")
	}
}

func TestInvalidUTF8(t *testing.T) {
	// Expected values from table 3-8 of the Unicode standard, section 3.9, and
	// its neighbours.
	cases := []struct{ in, want string }{
		{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
		{"\xed\xa0\x80\xed\xbf\xbf\xed\xafA", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
		{"\xf4\x91\x92\x93\xffA\x80\xbfB", "\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB"},
		{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfA", "\ufffd\ufffd\ufffd\ufffdA"},
		{"\xf0\x9f\x98", "\ufffd"},
		{"\xf0\x9f\x98\x80\xf0", "\U0001f600\ufffd"},
		{"\xc3(", "\ufffd("},
		{"\ufffd", "\ufffd"},
	}
	for _, c := range cases {
		d := NewDecoder(AppendString(nil, c.in))
		if got := d.String(100); got != c.want || d.Err() != nil {
			t.Errorf("String of %x = %+q, %v; want %+q", c.in, got, d.Err(), c.want)
		}
	}
}

func TestAppendPanicsOnWhatCannotBeRead(t *testing.T) {
	for name, f := range map[string]func(){
		"AppendUint":      func() { AppendUint(nil, MaxInt+1) },
		"AppendUint64":    func() { AppendUint64(nil, math.MaxUint64) },
		"AppendInt low":   func() { AppendInt(nil, -1<<52-1) },
		"AppendInt high":  func() { AppendInt(nil, 1<<52) },
		"AppendUint24":    func() { AppendUint24(nil, 1<<24) },
		"AppendInt least": func() { AppendInt(nil, math.MinInt64) },
	} {
		if !panics(f) {
			t.Errorf("%s did not panic", name)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(0), int64(0), []byte{}, "")
	f.Add(uint64(0xfd), int64(-1), []byte("block"), "hypercore/alpha")
	f.Add(uint64(math.MaxUint32+1), int64(math.MinInt64), make([]byte, 300), "\xff")
	f.Add(uint64(MaxInt), int64(-1<<52), []byte{1, 2, 3, 4, 5}, "\u2603")
	f.Fuzz(func(t *testing.T, u uint64, i int64, raw []byte, s string) {
		u &= MaxInt
		i >>= 11 // keeps the sign
		words := make([]uint32, len(raw)/4)
		for k := range words {
			words[k] = uint32(raw[4*k]) | uint32(raw[4*k+3])<<24
		}
		b := AppendUint(nil, u)
		if len(b) != SizeUint(u) {
			t.Errorf("SizeUint(%d) = %d, want %d", u, SizeUint(u), len(b))
		}
		b = AppendInt(b, i)
		n := len(b)
		b = AppendBytes(b, raw)
		if len(b)-n != SizeBytes(raw) {
			t.Errorf("SizeBytes = %d, want %d", SizeBytes(raw), len(b)-n)
		}
		b = AppendString(b, s)
		b = AppendBool(b, u%2 == 1)
		b = AppendUint16(b, uint16(u))
		b = AppendUint24(b, uint32(u)&0xffffff)
		b = AppendUint32(b, uint32(u))
		b = AppendUint64(b, u)
		b = AppendWords(b, words)
		b = append(b, raw...)

		d := NewDecoder(b)
		if got := d.Uint(); got != u {
			t.Errorf("Uint = %d, want %d", got, u)
		}
		if got := d.Int(); got != i {
			t.Errorf("Int = %d, want %d", got, i)
		}
		if got := d.Bytes(len(raw)); !bytes.Equal(got, raw) {
			t.Errorf("Bytes = %x, want %x", got, raw)
		}
		if got := d.String(len(s)); got != s && utf8.ValidString(s) || !utf8.ValidString(got) {
			t.Errorf("String = %q, want %q", got, s)
		}
		if got := d.Bool(); got != (u%2 == 1) {
			t.Errorf("Bool = %v", got)
		}
		if a, b, c, e := d.Uint16(), d.Uint24(), d.Uint32(), d.Uint64(); a != uint16(u) || b != uint32(u)&0xffffff || c != uint32(u) || e != u {
			t.Errorf("fixed widths of %d = %d %d %d %d", u, a, b, c, e)
		}
		if got := d.Words(len(words)); !slices.Equal(got, words) {
			t.Errorf("Words = %v, want %v", got, words)
		}
		if got := d.Rest(); !bytes.Equal(got, raw) || d.Err() != nil || d.Remaining() != 0 || d.Offset() != len(b) {
			t.Errorf("Rest = %x, %v; want %x", got, d.Err(), raw)
		}
	})
}

// FuzzDecoder reads any input by any sequence of calls.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0xff, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{0})
	f.Add([]byte{0xfe, 0, 0, 0x10, 0}, []byte{10, 11})
	f.Add([]byte("\x03abc\x02\xc3\x28"), []byte{7, 9, 12})
	f.Fuzz(func(t *testing.T, in, calls []byte) {
		d := NewDecoder(in)
		for _, c := range calls {
			before, failed := d.Offset(), d.Err()
			var got []byte
			switch c % 14 {
			case 0:
				if v := d.Uint(); v > MaxInt {
					t.Errorf("Uint = %d", v)
				}
			case 1:
				d.Int()
			case 2:
				d.Uint8()
			case 3:
				d.Uint16()
			case 4:
				d.Uint24()
			case 5:
				d.Uint32()
			case 6:
				d.Uint64()
			case 7:
				got = d.Bytes(int(c))
			case 8:
				got = d.OptionalBytes(int(c))
			case 9:
				if s := d.String(int(c)); !utf8.ValidString(s) {
					t.Errorf("String = %q", s)
				}
			case 10:
				if n := d.Count(int(c / 14)); n*int(c/14) > d.Remaining() {
					t.Errorf("Count = %d of %d bytes with %d left", n, c/14, d.Remaining())
				}
			case 11:
				if n := len(d.Words(1 << 20)); n*4 > len(in) {
					t.Errorf("%d words in %d bytes", n, len(in))
				}
			case 12:
				d.Fixed32()
				d.Fixed64()
			case 13:
				d.Bool()
				got = d.Rest()
			}
			if len(got) > len(in) || d.Offset() < before || d.Offset() > len(in) || d.Offset()+d.Remaining() > len(in) {
				t.Fatalf("offset %d after %d of %d bytes", d.Offset(), before, len(in))
			}
			if failed != nil && !errors.Is(d.Err(), failed) {
				t.Fatalf("error changed from %v to %v", failed, d.Err())
			}
		}
	})
}

func BenchmarkAppendUint(b *testing.B) {
	buf := make([]byte, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendUint(buf[:0], 1<<20)
	}
}

func BenchmarkDecode(b *testing.B) {
	in := AppendUint(nil, 7)
	in = AppendUint(in, 1<<40)
	in = append(in, make([]byte, 32)...)
	in = AppendBytes(in, make([]byte, 1024))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d := NewDecoder(in)
		d.Uint()
		d.Uint()
		d.Fixed32()
		d.Bytes(1024)
		if d.Err() != nil {
			b.Fatal(d.Err())
		}
	}
}
