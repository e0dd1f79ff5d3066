package muxer

import (
	"bytes"
	"testing"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// maxBlock is the size of the largest block in bytes, ourBatch is where batches are to be cut here, and protomuxBatch where
// JavaScript cuts them.
const (
	maxBlock      = 15 << 20
	ourBatch      = 32 << 10
	protomuxBatch = 8 << 20
)

// opened returns two sides with a channel that both have opened, and the first one's end of it.
func opened(t *testing.T) (a, b *Mux, c *Channel) {
	t.Helper()
	a, b = New(0), New(0)
	c = mustOpen(t, a, "x")
	mustOpen(t, b, "x")
	transfer(t, a, b)
	transfer(t, b, a)
	return a, b, c
}

// Whatever waits goes out in batches that are cut at 32 KiB, and never within a message: a block of any size is one
// frame, which protomux takes.
func TestBatchesAreCutBetweenMessages(t *testing.T) {
	t.Parallel()
	a, b, c := opened(t)
	a.Cork()
	var want [][]byte
	for i, size := range []int{100, ourBatch - 200, 5 << 10, 5 << 10, maxBlock, 1000, maxFrame - 64, ourBatch, ourBatch, 1} {
		p := bytes.Repeat([]byte{byte(i + 1)}, size)
		want = append(want, p)
		if err := a.Send(c, 3, raw(p)); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		p := bytes.Repeat([]byte{255}, 1000)
		want = append(want, p)
		if err := a.Send(c, 3, raw(p)); err != nil {
			t.Fatal(err)
		}
	}
	a.Uncork()
	frames := 0
	for f, ok := a.Take(); ok; f, ok = a.Take() {
		if frames++; len(f.Bytes) > maxFrame {
			t.Errorf("a frame of %d bytes, over %d", len(f.Bytes), maxFrame)
		}
		events := drain(t, b, bytes.Clone(f.Bytes))
		room := 0
		for _, ev := range events {
			if ev.Kind != Message || len(want) == 0 || !bytes.Equal(ev.Payload, want[0]) {
				t.Fatalf("frame %d: %d payloads to come, and got %d bytes", frames, len(want), len(ev.Payload))
			}
			room = len(ev.Payload)
			want = want[1:]
		}
		if before := len(f.Bytes) - room; len(events) > 1 && before > ourBatch+64 {
			t.Errorf("a batch of %d bytes went on after %d", len(f.Bytes), before)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d messages did not come", len(want))
	}
	if frames > 50 {
		t.Errorf("%d frames for 31 MiB in two messages and small messages", frames)
	}
}

// JavaScript fills a batch up to 8 MiB, and what takes it over that is still in it.
func TestABatchOfProtomuxIsTakenWhole(t *testing.T) {
	t.Parallel()
	_, b, c := opened(t)
	const size = 64 << 10
	frame := compact.AppendUint([]byte{0, 0}, c.localID)
	n := 0
	for ; len(frame) < protomuxBatch; n++ {
		body := append(compact.AppendUint(nil, 3), bytes.Repeat([]byte{byte(n)}, size)...)
		frame = append(compact.AppendUint(frame, uint64(len(body))), body...)
	}
	events := drain(t, b, frame)
	if len(events) != n {
		t.Fatalf("%d events of %d messages", len(events), n)
	}
	for i, ev := range events {
		if ev.Kind != Message || ev.Type != 3 || len(ev.Payload) != size || ev.Payload[size-1] != byte(i) {
			t.Fatalf("event %d is of kind %d, with %d bytes", i, ev.Kind, len(ev.Payload))
		}
	}
}
