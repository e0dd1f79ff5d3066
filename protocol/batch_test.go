package protocol

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// protomuxBatch is the size in bytes at which JavaScript cuts a batch.
const protomuxBatch = 8 << 20

// A batch of JavaScript has up to 8 MiB and what takes it over that, twice as much as may be unprocessed here. All of it is
// worked off in order, and the conversation goes on.
func TestABatchLargerThanTheInboxIsWorkedOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		x := exchange(t, w, false)
		c, r, done := victim(t, Config{}, x)
		var got []byte // first bytes; the handlers run one at a time, and are read at rest
		stop, err := x.OnExtension("x", func(_ context.Context, _ Peer, m []byte) {
			if len(m) == 100<<10 {
				got = append(got, m[0])
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if err := r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true)); err != nil {
			t.Fatal(err)
		}
		if err := r.send(1, &wire.Sync{Length: 3, RemoteLength: 3, Uploading: true, Downloading: true}); err != nil {
			t.Fatal(err)
		}
		r.read()

		batch := []byte{0, 0, 1}
		add := func(m wire.Message) {
			body := m.Append(compact.AppendUint(nil, m.Type()))
			batch = append(compact.AppendUint(batch, uint64(len(body))), body...)
		}
		var want []byte
		for i := byte(0); len(batch) < protomuxBatch; i++ {
			add(&wire.Extension{Name: "x", Message: bytes.Repeat([]byte{i}, 100<<10)})
			want = append(want, i)
		}
		add(&wire.Request{ID: 1, Request: merkle.Request{Block: &merkle.BlockRequest{Index: 2}}})
		if err := r.frame(batch); err != nil {
			t.Fatal(err)
		}
		answers := r.read()
		if !bytes.Equal(got, want) {
			t.Errorf("%d of %d messages have come, or in another order", len(got), len(want))
		}
		if len(answers) != 1 || answers[0].typ != wire.TypeData {
			t.Errorf("the request at the end of the batch is answered with %v", answers)
		}
		wantUnharmed(t, c, done)
	})
}
