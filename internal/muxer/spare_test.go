package muxer

import (
	"fmt"
	"testing"
	"unsafe"
)

// burst sends n payloads before anything is written, then writes all of it.
func burst(m *Mux, c *Channel, p Payload, n int) {
	for range n {
		_ = m.Send(c, 3, p)
	}
	for f, ok := m.Take(); ok; f, ok = m.Take() {
		m.Recycle(f)
	}
}

// A burst of as many bytes as a channel has credit for is laid in the memory of the one before.
func TestBurstsUseTheMemoryOfTheOnesBefore(t *testing.T) {
	for _, size := range []int{100, 1 << 10, 20 << 10, 64 << 10} {
		m := New(3)
		m.Cork()
		c := mustOpen(t, m, "x")
		p := Payload(raw(make([]byte, size)))
		n := 1 << 20 / size
		if got := testing.AllocsPerRun(10, func() { burst(m, c, p, n) }); got != 0 {
			t.Errorf("%d payloads of %d bytes: %v allocations, want 0", n, size, got)
		}
	}
}

func TestSpareMemoryIsBounded(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(m *Mux, channels []*Channel){
		"large": func(m *Mux, ch []*Channel) { _ = m.Send(ch[0], 0, raw(make([]byte, 2<<20))) },
		"many": func(m *Mux, ch []*Channel) {
			for range 300 {
				_ = m.Send(ch[0], 0, raw(make([]byte, 20<<10)))
			}
		},
		"credits": func(m *Mux, ch []*Channel) { // one for each few bytes
			for i := range 200_000 {
				_ = m.Send(ch[i%len(ch)], 0, raw(""))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(3)
			m.Cork()
			send(m, []*Channel{mustOpen(t, m, "x"), mustOpen(t, m, "y")})
			for f, ok := m.Take(); ok; f, ok = m.Take() {
				m.Recycle(f)
			}
			kept := 0
			for _, f := range m.out.spare {
				kept += cap(f.Bytes) + int(unsafe.Sizeof(Credit{}))*cap(f.Credits)
			}
			if kept > maxSpareBytes || len(m.out.spare) > maxSpareFrames || kept != m.out.spareBytes {
				t.Errorf("%d bytes in %d frames are kept, and %d counted", kept, len(m.out.spare), m.out.spareBytes)
			}
		})
	}
}

// BenchmarkBurst sends as much as a channel has credit for before anything is written, as an exchange does that
// answers many requests in one turn.
func BenchmarkBurst(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("block=%d", size), func(b *testing.B) {
			m := New(3)
			m.Cork()
			c := mustOpen(b, m, "x")
			p := Payload(raw(make([]byte, size)))
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				burst(m, c, p, 1<<20/size)
			}
		})
	}
}
