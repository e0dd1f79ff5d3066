package protocol

import (
	"fmt"
	"io"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// openingVersion is the first byte of an opening frame.
const openingVersion = 1

// Opening is the first frame of each side of a plain stream.
//
//	01, 32 random bytes, uint boot, uint number, uint flags, more bytes that are ignored
//
// Boot and Number are the sender's stamp: when it started, as Unix time in milliseconds, and how many
// opening frames it has sent since. The stamps of one node only grow.
type Opening struct {
	Random       [32]byte
	Boot, Number uint64
	Flags        uint64 // unknown ones are ignored
}

const (
	// FlagLongQueue says that the sender lets some 5,000 requests wait on each channel. On others it is about
	// a thousand, and JavaScript peers are to be sent no more than 512.
	FlagLongQueue uint64 = 1 << iota

	// SupportedFlags are what our opening frames say.
	SupportedFlags = FlagLongQueue
)

// Append appends the frame's body to b.
func (o Opening) Append(b []byte) []byte {
	b = append(b, openingVersion)
	b = append(b, o.Random[:]...)
	b = compact.AppendUint(b, o.Boot)
	b = compact.AppendUint(b, o.Number)
	return compact.AppendUint(b, o.Flags)
}

// Newer says whether o's stamp is greater than other's. It means something for frames of the same
// sender only.
func (o Opening) Newer(other Opening) bool {
	return o.Boot > other.Boot || o.Boot == other.Boot && o.Number > other.Number
}

// ParseOpening reads the body of an opening frame, 33 to 1024 bytes. Numbers that are missing at
// the end are 0. The error wraps ErrMalformedOpening.
func ParseOpening(b []byte) (Opening, error) {
	if len(b) < minOpening || len(b) > maxOpening {
		return Opening{}, fmt.Errorf("%w: %d bytes", ErrMalformedOpening, len(b))
	}
	if b[0] != openingVersion {
		return Opening{}, fmt.Errorf("%w: version %d", ErrMalformedOpening, b[0])
	}
	d := compact.NewDecoder(b[1:])
	o := Opening{Random: d.Fixed32()}
	for _, field := range []*uint64{&o.Boot, &o.Number, &o.Flags} {
		if d.Err() == nil && d.Remaining() > 0 {
			*field = d.Uint()
		}
	}
	if err := d.Err(); err != nil {
		return Opening{}, fmt.Errorf("%w: %w", ErrMalformedOpening, err)
	}
	return o, nil
}

// PlainBinding is the binding of a plain stream: both ends compute it from the peer IDs that the
// transport has authenticated, as raw bytes, and the bodies of the two opening frames. A capability
// seen on one stream is worthless on every other.
//
//	BLAKE2b-256( p("p2pcore/plain/1") p(opener ID) p(responder ID) p(opener frame) p(responder frame) )
//	p(x) = uint length, x
func PlainBinding(openerID, responderID, openerFrame, responderFrame []byte) [32]byte {
	b := compact.AppendString(nil, "p2pcore/plain/1")
	for _, part := range [][]byte{openerID, responderID, openerFrame, responderFrame} {
		b = compact.AppendBytes(b, part)
	}
	return blake2b.Sum256(b)
}

// WriteFrame writes one frame in one Write. The error is ErrFrameTooLarge for a body above 16 MiB - 1.
func WriteFrame(w io.Writer, body []byte) error {
	if len(body) > maxFrame {
		return ErrFrameTooLarge
	}
	b := make([]byte, 0, frameHeader+len(body))
	b = compact.AppendUint24(b, uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// ReadFrame reads one frame of at most limit bytes and nothing behind it. It is meant for the opening frame; a
// Conn reads on from there.
//
// The error is ErrFrameTooLarge, io.EOF before the first byte, io.ErrUnexpectedEOF within the frame, or the reader's.
func ReadFrame(r io.Reader, limit int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	n := frameLength(header)
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLarge, n, limit)
	}
	return readBody(r, 0, n)
}
