package secretstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// file is secretstream.json.
type file struct {
	ProtocolName string `json:"protocol_name"`
	Sessions     []session
	DH           []struct {
		Name         string
		Seed         vectors.Hex
		RemotePublic vectors.Hex `json:"remote_public"`
		OK           bool
		Shared       vectors.Hex
	}
	Secretstream []struct {
		Note        string
		Key, Header vectors.Hex
		Steps       []struct {
			Tag           byte
			Plain, Cipher vectors.Hex
			Before        vectors.Hex `json:"state_before"`
			After         vectors.Hex `json:"state_after"`
		}
	}
	FirstFrames []struct {
		Name      string
		Frame     vectors.Hex `json:"first_frame"`
		Destroyed bool
	} `json:"first_frame_behaviour"`
}

type session struct {
	Label                string
	Initiator, Responder party
	HandshakeHash        vectors.Hex
	IDInitiator          vectors.Hex `json:"stream_id_initiator"`
	IDResponder          vectors.Hex `json:"stream_id_responder"`
	Handshake            []turn      `json:"handshake_frames"`
	Messages             []turn
	AtInitiator          []vectors.Hex `json:"received_by_initiator"`
	AtResponder          []vectors.Hex `json:"received_by_responder"`
}

type party struct {
	Static    vectors.Hex `json:"static_seed"`
	Public    vectors.Hex `json:"static_public"`
	Ephemeral vectors.Hex `json:"ephemeral_seed"`
	Header    vectors.Hex `json:"stream_header"`
	TX, RX    vectors.Hex
}

type turn struct {
	From         string
	Plain, Frame vectors.Hex
}

func load(t testing.TB) *file {
	t.Helper()
	f := new(file)
	vectors.Load(t, "secretstream.json", f)
	if len(f.Sessions) == 0 || len(f.DH) == 0 || len(f.Secretstream) == 0 || len(f.FirstFrames) == 0 {
		t.Fatal("a part of the file is missing")
	}
	return f
}

// tape is a byte stream with one direction given and the other recorded.
type tape struct {
	in  bytes.Reader
	out bytes.Buffer
}

func newTape(in []byte) *tape {
	p := new(tape)
	p.in.Reset(in)
	return p
}

func (p *tape) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *tape) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *tape) Close() error                { return nil }

// sent joins the frames that one side has sent.
func (v *session) sent(from string, turns ...[]turn) (b []byte) {
	for _, list := range turns {
		for _, f := range list {
			if f.From == from {
				b = append(b, f.Frame...)
			}
		}
	}
	return b
}

// begin shakes hands in one role with what the other side has sent in v.
func (v *session) begin(t testing.TB, initiator bool) (*Stream, *tape) {
	t.Helper()
	us, other := v.Responder, "initiator"
	if initiator {
		us, other = v.Initiator, "responder"
	}
	p := newTape(v.sent(other, v.Handshake, v.Messages))
	s, err := Handshake(context.Background(), p, Config{
		Initiator: initiator,
		Seed:      [32]byte(us.Static),
		Rand:      bytes.NewReader(append(bytes.Clone(us.Ephemeral), us.Header...)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// TestVectorsSecretstreamSessions plays each role against the recorded frames of the other: every
// byte that is sent, and every message that arrives, has to be the recorded one.
func TestVectorsSecretstreamSessions(t *testing.T) {
	t.Parallel()
	for _, v := range load(t).Sessions {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(v.Label+"/"+role, func(t *testing.T) {
				t.Parallel()
				initiator := role == "initiator"
				us, them, want := v.Responder, v.Initiator, v.AtResponder
				if initiator {
					us, them, want = v.Initiator, v.Responder, v.AtInitiator
				}
				s, p := v.begin(t, initiator)
				equal(t, "handshake frames", p.out.Bytes(), v.sent(role, v.Handshake))
				hash, remote := s.HandshakeHash(), s.RemotePublicKey()
				equal(t, "handshake hash", hash[:], v.HandshakeHash)
				equal(t, "remote's key", remote[:], them.Public)
				equal(t, "receiving key", s.receiveKey[:], us.RX)
				first, second := idOf(hash, 0), idOf(hash, 1)
				equal(t, "initiator's id", first[:], v.IDInitiator)
				equal(t, "responder's id", second[:], v.IDResponder)
				fresh, err := newState(us.TX, us.Header)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "sending key", s.send.key[:], fresh.key[:])

				var messages [][]byte
				for _, m := range v.Messages {
					if m.From == role {
						messages = append(messages, m.Plain)
					}
				}
				p.out.Reset()
				if err := s.WriteMessage(messages[:2]...); err != nil {
					t.Fatal(err)
				}
				for _, m := range messages[2:] {
					if err := s.WriteMessage(m); err != nil {
						t.Fatal(err)
					}
				}
				equal(t, "message frames", p.out.Bytes(), v.sent(role, v.Messages))

				for i, w := range want {
					if len(w) == 0 {
						continue // a keep-alive
					}
					got, err := s.ReadMessage()
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					equal(t, "message", got, w)
				}
				if got, err := s.ReadMessage(); err != io.EOF {
					t.Errorf("after the last message: %x, %v, want EOF", got, err)
				}
			})
		}
	}
}

func equal(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes %.80x, want %d bytes %.80x", what, len(got), got, len(want), want)
	}
}

func TestVectorsSecretstreamDH(t *testing.T) {
	t.Parallel()
	for _, v := range load(t).DH {
		got, err := edwards{}.DH(v.Seed, v.RemotePublic)
		if (err == nil) != v.OK || !bytes.Equal(got, v.Shared) {
			t.Errorf("%q, seed %s with %s: got %x, %v, want %s", v.Name, v.Seed, v.RemotePublic, got, err, v.Shared)
		}
		if err != nil && !errors.Is(err, errPoint) {
			t.Errorf("%q: %v", v.Name, err)
		}
	}
}

// TestVectorsSecretstreamState compares the bare construction with libsodium's: all tags, new keys by
// tag and by the counter.
func TestVectorsSecretstreamState(t *testing.T) {
	t.Parallel()
	for _, v := range load(t).Secretstream {
		send, err := newState(v.Key, v.Header)
		if err != nil {
			t.Fatal(err)
		}
		receive, err := newState(v.Key, v.Header)
		if err != nil {
			t.Fatal(err)
		}
		if v.Note != "" { // the counter was forced
			copy(send.nonce[:4], v.Steps[0].Before[32:])
			copy(receive.nonce[:4], v.Steps[0].Before[32:])
			if binary.LittleEndian.Uint32(send.nonce[:4]) != 1<<32-1 {
				t.Errorf("note %q: the counter is %x", v.Note, send.nonce[:4])
			}
		}
		for i, step := range v.Steps {
			equal(t, "state before", send.bytes(), step.Before)
			b, err := send.seal(append(bytes.Repeat([]byte{0xaa}, block), step.Plain...), step.Tag)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "cipher", b[block-1:], step.Cipher)
			equal(t, "state after sending", send.bytes(), step.After)
			got, ok, err := receive.open(append(bytes.Repeat([]byte{0xaa}, block-1), step.Cipher...))
			if err != nil || !ok {
				t.Fatalf("step %d: %v, %v", i, ok, err)
			}
			equal(t, "plain", got, step.Plain)
			equal(t, "state after receiving", receive.bytes(), step.After)
		}
	}
}

// bytes is the state as libsodium lays it out.
func (s *state) bytes() []byte {
	b := append(bytes.Clone(s.key[:]), s.nonce[:]...)
	return append(b, make([]byte, 8)...)
}

// TestVectorsSecretstreamFirstFrame gives a responder its first frame. Of a frame of length zero JavaScript takes
// notice with the next bytes only; what is known by then is that there will be no stream.
func TestVectorsSecretstreamFirstFrame(t *testing.T) {
	t.Parallel()
	for _, v := range load(t).FirstFrames {
		p := newTape(v.Frame)
		s, err := Handshake(context.Background(), p, Config{})
		if s != nil || err == nil {
			t.Fatalf("%s: a stream after one frame", v.Name)
		}
		empty := len(v.Frame) == lengthSize
		if refused := errors.Is(err, ErrHandshake); refused != (v.Destroyed || empty) {
			t.Errorf("%s: error %v, want a refusal: %v", v.Name, err, v.Destroyed)
		}
		if answered := p.out.Len() > 0; answered != (!v.Destroyed && !empty) {
			t.Errorf("%s: sent %d bytes", v.Name, p.out.Len())
		}
	}
}

func TestProtocolName(t *testing.T) {
	t.Parallel()
	h, err := newHandshake(newTape(nil), Config{Initiator: true})
	if err != nil {
		t.Fatal(err)
	}
	// The state begins with the name, which has fewer bytes than the hash, and the hash of no prologue.
	name := load(t).ProtocolName
	sum := blake2b.Sum512(append([]byte(name), make([]byte, 64-len(name))...))
	equal(t, "first hash", h.noise.ChannelBinding(), sum[:])
}
