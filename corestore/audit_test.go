package corestore_test

import (
	"errors"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// spoil replaces the one value of ds that is was by another of its length.
func spoil(t *testing.T, ds datastore.Batching, was string) {
	t.Helper()
	for key, value := range everything(t, ds) {
		if strings.HasSuffix(string(value), was) {
			bad := []byte(strings.Repeat("x", len(value)))
			if err := ds.Put(t.Context(), datastore.RawKey(key), bad); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("nothing in the datastore ends in %q", was)
}

// TestAuditLooksAtTheWholeGroup: a damaged feed is told, repaired if that is asked for, and keeps no other from being
// looked at.
func TestAuditLooksAtTheWholeGroup(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		var names []string
		for _, name := range []string{"a", "b", "c"} {
			f := must(t)(s.Named(ctx, name))
			appendText(t, f, name+" one", name+" two")
			f.Close()
		}
		removed := must(t)(s.Named(ctx, "removed"))
		if err := s.Remove(ctx, removed.Key()); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		spoil(t, ds, "b two")

		s = open(t, ds, corestore.Options{})
		audit := func(repair bool) (damaged []string) {
			names = nil
			for a, err := range s.Audit(ctx, corestore.AuditOptions{Repair: repair}) {
				if err != nil {
					t.Fatal(err)
				}
				if names = append(names, a.Name); a.Default {
					names = names[:len(names)-1]
				}
				if a.Damage == nil {
					continue
				}
				damaged = append(damaged, a.Name)
				if !errors.Is(a.Damage, feed.ErrCorrupt) {
					t.Errorf("the damage is %v, want ErrCorrupt", a.Damage)
				}
				if repair != (a.Left == nil) || repair != (a.Repaired != nil) {
					t.Errorf("repair %v: dropped %+v, left %v", repair, a.Repaired, a.Left)
				}
			}
			return damaged
		}
		for i, want := range []struct {
			repair  bool
			damaged string
		}{{false, "b"}, {true, "b"}, {false, ""}} {
			if got := strings.Join(audit(want.repair), " "); got != want.damaged {
				t.Errorf("audit %d: %q is damaged, want %q", i, got, want.damaged)
			}
			if got := strings.Join(names, " "); got != "a b c" {
				t.Errorf("audit %d looks at %q", i, got)
			}
		}
		for f := range s.Active() {
			t.Errorf("the audit has made %s active", f.Key())
		}
		if _, err := s.AuditFeed(ctx, feed.Key{1}, corestore.AuditOptions{}); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("audit of a feed that is not here: %v", err)
		}
	})
}
