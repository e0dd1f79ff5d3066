package secretstream

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkSeal and BenchmarkOpen are the work of one side for one message.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("message=%d", size), func(b *testing.B) {
			s := &Stream{send: someState(b)}
			buf := make([]byte, Headroom+size, Headroom+size+macSize)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Seal(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("message=%d", size), func(b *testing.B) {
			s := &Stream{send: someState(b)}
			frame, err := s.Seal(make([]byte, Headroom+size))
			if err != nil {
				b.Fatal(err)
			}
			start := *someState(b)
			s.receive = new(state)
			buf := make([]byte, Headroom+size+overhead)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				*s.receive = start
				copy(buf[Headroom:], frame[lengthSize:]) // Open works in place
				if _, err := s.Open(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func someState(t testing.TB) *state {
	t.Helper()
	s, err := newState(make([]byte, 32), make([]byte, streamHeader))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// BenchmarkHandshake is the work of both sides.
func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		shake(b, context.Background())
	}
}
