package feed

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
)

// Codec turns values of an application into blocks and back. It must be safe for concurrent use.
type Codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(block []byte) (T, error) // block is Decode's to keep
}

// Typed is a session whose blocks are values.
type Typed[T any] struct {
	s     *Session
	codec Codec[T]
}

// NewTyped returns s as a log of values. The session stays the caller's to close.
func NewTyped[T any](s *Session, codec Codec[T]) Typed[T] { return Typed[T]{s, codec} }

// Session returns the session itself.
func (t Typed[T]) Session() *Session { return t.s }

// Append appends values, all or none. The errors are those of Session.Append, or the codec's.
func (t Typed[T]) Append(ctx context.Context, values ...T) (Info, error) {
	blocks := make([][]byte, len(values))
	for i, v := range values {
		var err error
		if blocks[i], err = t.codec.Encode(v); err != nil {
			return Info{}, fmt.Errorf("feed: encode value %d of the call: %w", i, err)
		}
	}
	return t.s.Append(ctx, blocks...)
}

// Get returns value index. The errors are those of Session.Get, or ErrDecode.
func (t Typed[T]) Get(ctx context.Context, index uint64) (T, error) {
	b, err := t.s.Get(ctx, index)
	if err != nil {
		var none T
		return none, err
	}
	return t.decode(index, b)
}

func (t Typed[T]) decode(index uint64, b []byte) (T, error) {
	v, err := t.codec.Decode(b)
	if err != nil {
		err = fmt.Errorf("%w: block %d: %w", ErrDecode, index, err)
	}
	return v, err
}

// Values returns the values of r in order, as Session.Blocks does. A block that cannot be decoded is yielded with
// ErrDecode, and the iteration goes on if the caller does; any other error ends it.
func (t Typed[T]) Values(ctx context.Context, r Range, o ReadOptions) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for b, err := range t.s.Entries(ctx, r, o) {
			var v T
			if err == nil {
				v, err = t.decode(b.Index, b.Data)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// JSON is the codec of JSON texts.
type JSON[T any] struct{}

// Encode implements Codec.
func (JSON[T]) Encode(value T) ([]byte, error) { return json.Marshal(value) }

// Decode implements Codec.
func (JSON[T]) Decode(block []byte) (value T, err error) {
	err = json.Unmarshal(block, &value)
	return value, err
}

// Text is the codec of strings as they are.
type Text struct{}

// Encode implements Codec.
func (Text) Encode(value string) ([]byte, error) { return []byte(value), nil }

// Decode implements Codec.
func (Text) Decode(block []byte) (string, error) { return string(block), nil }

// Binary is the codec of values that encode themselves, such as Binary[time.Time, *time.Time].
type Binary[T any, P interface {
	*T
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}] struct{}

// Encode implements Codec.
func (Binary[T, P]) Encode(value T) ([]byte, error) { return P(&value).MarshalBinary() }

// Decode implements Codec.
func (Binary[T, P]) Decode(block []byte) (value T, err error) {
	err = P(&value).UnmarshalBinary(block)
	return value, err
}
