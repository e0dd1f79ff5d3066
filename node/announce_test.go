package node

import (
	"maps"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

// TestAnnouncePolicy: what the listen functions are told, from the start on and as feeds come, leave and come back. The
// feed "chosen" is listened for in any case, to be announced and looked up.
func TestAnnouncePolicy(t *testing.T) {
	const both = dht.Announce | dht.Lookup
	type modes = map[string]dht.Mode
	for policy, want := range map[AnnouncePolicy][3]modes{ // at first, with new feeds, and without "stored" and "new"
		AnnounceChosen:  {{"chosen": both}, {"chosen": both}, {"chosen": both}},
		AnnounceDefault: {{"chosen": dht.Lookup, "default": both}, {"chosen": dht.Lookup, "default": both}, {"chosen": dht.Lookup, "default": both}},
		AnnounceAll: {
			{"chosen": both, "stored": dht.Announce}, {"chosen": both, "stored": dht.Announce, "new": dht.Announce}, {"chosen": both},
		},
	} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				names := map[feed.DiscoveryKey]string{s.DefaultKey().DiscoveryKey(): "default"}
				make1 := func(name string) feed.Key {
					t.Helper()
					f, err := s.Named(t.Context(), name)
					if err != nil {
						t.Fatal(err)
					}
					names[f.DiscoveryKey()] = name
					return f.Key()
				}
				stored, chosen := make1("stored"), make1("chosen")
				var mu sync.Mutex
				told := make(map[feed.DiscoveryKey]dht.Mode)
				r := NewReplicator(s, ReplicatorOptions{
					Announce: policy,
					OnListen: func(dk feed.DiscoveryKey, m dht.Mode) {
						mu.Lock()
						defer mu.Unlock()
						told[dk] = m
					},
					OnUnlisten: func(dk feed.DiscoveryKey) {
						mu.Lock()
						defer mu.Unlock()
						delete(told, dk)
					},
				})
				defer r.Close()
				leave := r.Listen(chosen.DiscoveryKey(), both)
				defer leave()
				check := func(when string, want modes) {
					t.Helper()
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					got := make(modes)
					for dk, m := range told {
						got[names[dk]] = m
					}
					if !maps.Equal(got, want) {
						t.Errorf("%s: %v, want %v", when, got, want)
					}
				}
				check("at first", want[0])
				added := make1("new")
				check("with a new feed", want[1])
				if err := s.Remove(t.Context(), stored); err != nil {
					t.Fatal(err)
				}
				if err := s.Delete(t.Context(), added, corestore.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				check("without two feeds", want[2])
				make1("stored")
				make1("new")
				check("with both again", want[1])
			})
		})
	}
	for _, p := range []AnnouncePolicy{AnnounceChosen, AnnounceDefault, AnnounceAll} {
		if got, err := ParseAnnouncePolicy(p.String()); err != nil || got != p {
			t.Errorf("%v is read as %v: %v", p, got, err)
		}
	}
	if _, err := ParseAnnouncePolicy("some"); err == nil {
		t.Error("a policy that there is not was read")
	}
	if _, err := New(newStore(t), WithAnnounce(AnnounceAll+1)); err == nil {
		t.Error("a node with a policy that there is not")
	}
}
