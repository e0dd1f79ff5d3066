package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

func TestVectorsWireCapabilities(t *testing.T) {
	t.Parallel()
	var file struct {
		Capabilities []struct {
			Key, HandshakeHash vectors.Hex
			Initiator          vectors.Hex `json:"sent_by_initiator"`
			Responder          vectors.Hex `json:"sent_by_responder"`
		}
	}
	vectors.Load(t, "wire.json", &file)
	if len(file.Capabilities) == 0 {
		t.Fatal("file without capabilities")
	}
	for _, v := range file.Capabilities {
		if got := Capability(feed.Key(v.Key), v.HandshakeHash, true); !bytes.Equal(got[:], v.Initiator) {
			t.Errorf("key %s, initiator: got %x, want %s", v.Key, got, v.Initiator)
		}
		if got := Capability(feed.Key(v.Key), v.HandshakeHash, false); !bytes.Equal(got[:], v.Responder) {
			t.Errorf("key %s, responder: got %x, want %s", v.Key, got, v.Responder)
		}
	}
}

// TestPlainBindingIsPinned fails when the binding is computed in another way: then no two versions
// of p2pcore could talk to each other. The value was computed with Python's hashlib.
func TestPlainBindingIsPinned(t *testing.T) {
	t.Parallel()
	opener := Opening{Boot: 1700000000000, Number: 1}
	responder := Opening{Boot: 1700000000001, Number: 300, Flags: 1}
	for i := range opener.Random {
		opener.Random[i], responder.Random[i] = byte(i), byte(255-i)
	}
	got := PlainBinding([]byte("\x00\x24opener"), []byte("\x00\x24responder"), opener.Append(nil), responder.Append(nil))
	const want = "5fc2395751d600cc2ee6c690f94311fefe2c5b35ef632768c5f9e6952c122055"
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

func TestParseOpening(t *testing.T) {
	t.Parallel()
	full := Opening{Random: [32]byte{1, 2}, Boot: 1 << 40, Number: 70000, Flags: 5}
	for _, c := range []struct {
		name string
		body []byte
		want Opening
		ok   bool
	}{
		{"as written", full.Append(nil), full, true},
		{"more bytes are ignored", append(full.Append(nil), 1, 2, 3), full, true},
		{"no stamp", full.Append(nil)[:33], Opening{Random: full.Random}, true},
		{"too short", full.Append(nil)[:32], Opening{}, false},
		{"cut within a number", full.Append(nil)[:35], Opening{}, false},
		{"too long", append(full.Append(nil), make([]byte, 1024)...), Opening{}, false},
		{"other version", append([]byte{2}, full.Append(nil)[1:]...), Opening{}, false},
		{"empty", nil, Opening{}, false},
	} {
		got, err := ParseOpening(c.body)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
		if err != nil && !errors.Is(err, ErrMalformedOpening) {
			t.Errorf("%s: %v is no ErrMalformedOpening", c.name, err)
		}
	}
}

func TestOpeningNewer(t *testing.T) {
	t.Parallel()
	a, b := Opening{Boot: 1, Number: 9}, Opening{Boot: 2, Number: 1}
	if a.Newer(b) || !b.Newer(a) || a.Newer(a) || !(Opening{Boot: 1, Number: 10}).Newer(a) {
		t.Error("stamps do not compare by boot, then number")
	}
}

func FuzzParseOpening(f *testing.F) {
	f.Add(Opening{Boot: 300, Number: 70000}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOpening(b)
		if err != nil {
			return
		}
		if again, err := ParseOpening(o.Append(nil)); err != nil || again != o {
			t.Fatalf("%+v became %+v, %v", o, again, err)
		}
	})
}

func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, n := range []int{0, 1, 300, frameStep + 17, 3*frameStep + 1} {
		body := bytes.Repeat([]byte{byte(n)}, n)
		b.Reset()
		if err := WriteFrame(&b, body); err != nil {
			t.Fatal(err)
		}
		b.WriteString("rest")
		got, err := ReadFrame(iotest.HalfReader(&b), maxFrame)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes: %d came back, %v", n, len(got), err)
		}
		if rest, _ := io.ReadAll(&b); string(rest) != "rest" {
			t.Fatalf("%d bytes: %q left behind the frame", n, rest)
		}
	}
	if err := WriteFrame(&b, make([]byte, maxFrame+1)); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("writing too much: %v", err)
	}
	if _, err := ReadFrame(bytes.NewReader([]byte{5, 0, 0, 1}), 4); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("reading too much: %v", err)
	}
	if _, err := ReadFrame(bytes.NewReader([]byte{5, 0, 0, 1}), 5); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading half a frame: %v", err)
	}
	if _, err := ReadFrame(bytes.NewReader(nil), 5); err != io.EOF {
		t.Errorf("reading nothing: %v", err)
	}
}
