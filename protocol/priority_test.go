package protocol

import (
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// requests returns the requests that the side under test has sent and nobody has read.
func (r raw) requests() []*wire.Request {
	r.t.Helper()
	var out []*wire.Request
	for _, rec := range r.read() {
		if rec.channel == 0 || rec.typ != wire.TypeRequest {
			continue
		}
		m, err := wire.Parse(rec.typ, rec.payload)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, m.(*wire.Request))
	}
	return out
}

// A get asks with priority 1, whatever else with 0, as Hypercore does (its replicator's PRIORITY): a peer that is backed
// up serves the gets first.
func TestGetsAskWithPriority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(20, 100)...)
		f := reader(t, w)
		s := session(t, f)
		defer s.Close()
		_, r, _ := victim(t, Config{}, exchange(t, f, true))
		if err := r.open(1, f.DiscoveryKey(), Capability(f.Key(), testBinding, true)); err != nil {
			t.Fatal(err)
		}
		say := func(m wire.Message) {
			t.Helper()
			if err := r.send(1, m); err != nil {
				t.Fatal(err)
			}
		}
		say(&wire.Range{Length: 20})
		say(&wire.Sync{Length: 20, CanUpgrade: true, HasManifest: true, Uploading: true})
		q := r.requests()
		if len(q) != 1 || q[0].Upgrade == nil || q[0].Priority != 0 {
			t.Fatalf("for the head: %+v", q)
		}
		proved, err := w.Prove(t.Context(), []feed.Request{q[0].Request})
		if err != nil || proved[0].Err != nil {
			t.Fatal(err, proved[0].Err)
		}
		say(&wire.Data{ID: q[0].ID, Proof: *proved[0].Proof})
		r.read()

		go func() { _, _ = s.Get(t.Context(), 7) }()
		if q := r.requests(); len(q) != 1 || q[0].Block == nil || q[0].Block.Index != 7 || q[0].Priority != 1 {
			t.Errorf("for a get: %+v", q)
		}
		go func() { _ = s.Download(t.Context(), feed.Range{Start: 2, End: 4}) }()
		if q := r.requests(); len(q) != 2 || q[0].Block == nil || q[0].Priority+q[1].Priority != 0 {
			t.Errorf("for a range: %+v", q)
		}
		go func() { _, _, _ = s.Seek(t.Context(), 1500) }()
		if q := r.requests(); len(q) != 1 || q[0].Seek == nil || q[0].Priority != 0 {
			t.Errorf("for a seek: %+v", q)
		}
		go func() { _, _ = s.Get(t.Context(), 20) }()
		synctest.Wait() // it waits before there is anything to ask for
		say(&wire.Range{Length: 21})
		say(&wire.Sync{Length: 21, RemoteLength: 20, CanUpgrade: true, HasManifest: true, Uploading: true})
		if q := r.requests(); len(q) != 1 || q[0].Upgrade == nil || q[0].Block == nil || q[0].Block.Index != 20 || q[0].Priority != 1 {
			t.Errorf("for a get past the head: %+v", q)
		}
	})
}
