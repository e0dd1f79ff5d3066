package corestore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

func TestNewCorestoreMakesADefaultFeedAndRemembersIt(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{ManifestVersion: 2})
		key := s.DefaultKey()
		if n := len(list(t, s)); n != 0 {
			t.Errorf("%d feeds before Default was called", n)
		}
		session := must(t)(s.Namespace("n").Default(ctx))
		if info := session.Info(); info.Key != key || !info.Writable {
			t.Errorf("default feed %+v, want %s", info, key)
		}
		appendText(t, session, "face")
		if entries := list(t, s); len(entries) != 1 || !entries[0].Default || entries[0].Name != "" {
			t.Errorf("list %+v", entries)
		}
		closeStore(t, s)

		s = open(t, ds, corestore.Options{}) // of another manifest version: the feed stays the same
		if s.DefaultKey() != key {
			t.Errorf("another default after opening again")
		}
		wantBlocks(t, must(t)(s.Default(ctx)), "face")
		closeStore(t, s)
		open(t, ds, corestore.Options{DefaultKey: &key}) // which it has
	})
}

func TestDefaultFeedIsRestoredByThePrimaryKey(t *testing.T) {
	primary := [32]byte{9}
	a := open(t, newMemory(), corestore.Options{PrimaryKey: &primary})
	b := open(t, newMemory(), corestore.Options{PrimaryKey: &primary})
	other := open(t, newMemory(), corestore.Options{})
	if a.DefaultKey() != b.DefaultKey() || a.DefaultKey() == other.DefaultKey() {
		t.Errorf("default keys %s, %s and %s", a.DefaultKey(), b.DefaultKey(), other.DefaultKey())
	}
	if named := must(t)(a.Named(t.Context(), "default")); named.Key() == a.DefaultKey() {
		t.Error("a name of the root leads to the default feed")
	}
}

func TestNewCorestoreWithAKey(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		key := foreignKey
		s := open(t, ds, corestore.Options{DefaultKey: &key})
		key = feed.Key{} // the store has its own copy
		session := must(t)(s.Default(ctx))
		if info := session.Info(); info.Key != foreignKey || info.Writable {
			t.Errorf("default feed %+v", info)
		}
		closeStore(t, s)

		if _, err := corestore.Open(ctx, ds, corestore.Options{DefaultKey: &ownKey}); !errors.Is(err, corestore.ErrDefaultKey) {
			t.Errorf("another default: %v, want ErrDefaultKey", err)
		} else if strings.Contains(err.Error(), foreignKey.String()) {
			t.Error("the error tells a key")
		}
		s = open(t, ds, corestore.Options{})
		if s.DefaultKey() != foreignKey {
			t.Error("the given default is forgotten")
		}
		if err := s.Delete(ctx, foreignKey, corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		own := s.DefaultKey()
		for k, v := range everything(t, ds) {
			if strings.Contains(string(v), string(foreignKey[:])) {
				t.Errorf("record %s tells of the deleted default", k)
			}
		}
		closeStore(t, s)
		if s = open(t, ds, corestore.Options{}); own == foreignKey || s.DefaultKey() != own {
			t.Errorf("default after it was deleted: %s, then %s", own, s.DefaultKey())
		}
	})
}

func TestNewCorestoreWithAKeyWhoseSecretIsHere(t *testing.T) {
	ctx := t.Context()
	ds := newMemory()
	s := open(t, ds, corestore.Options{DefaultKey: &ownKey})
	if must(t)(s.Default(ctx)).Info().Writable {
		t.Error("writable without its secret")
	}
	must(t)(s.Paired(ctx, ownPair))
	appendText(t, must(t)(s.Default(ctx)), "x")
	closeStore(t, s)
	s = open(t, ds, corestore.Options{})
	wantBlocks(t, must(t)(s.Default(ctx)), "x")
}

// store.get() in all its forms.
func TestGetAFreshFeedAFeedByKeyByNameAndByDiscoveryKey(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		fresh := must(t)(s.Fresh(ctx))
		if other := must(t)(s.Fresh(ctx)); !fresh.Info().Writable || other.Key() == fresh.Key() {
			t.Error("two fresh feeds are one")
		}
		appendText(t, fresh, "x")
		named := must(t)(s.Named(ctx, "a name"))
		key := fresh.Key()
		for _, text := range []string{key.String(), key.Hex(), strings.ToUpper(key.Hex()), "pear://" + key.String() + "/path"} {
			wantBlocks(t, must(t)(s.Get(ctx, text)), "x")
		}
		for _, text := range []string{"", "a name", key.String()[1:], key.Hex() + "0"} {
			if _, err := s.Get(ctx, text); !errors.Is(err, feed.ErrMalformedKey) {
				t.Errorf("%q: %v, want ErrMalformedKey", text, err)
			}
		}
		if got := must(t)(s.Discovered(ctx, named.DiscoveryKey())); got.Key() != named.Key() || !got.Info().Writable {
			t.Errorf("by discovery key: %+v", got.Info())
		}
		if _, err := s.Discovered(ctx, foreignKey.DiscoveryKey()); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("by a discovery key that is not stored: %v", err)
		}
		if info := must(t)(s.Keyed(ctx, foreignKey)).Info(); info.Writable || info.Length != 0 {
			t.Errorf("somebody's feed: %+v", info)
		}
	})
}

func TestRemoveLeavesTheGroupAndKeepsTheStorage(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		other := must(t)(s.Named(ctx, "other"))
		f := must(t)(s.Named(ctx, "a"))
		key, dk := f.Key(), f.DiscoveryKey()
		appendText(t, f, "one", "two")
		var told []string
		s.OnActive(func(f *feed.Feed, active bool) { told = append(told, fmt.Sprint("active ", active)) })
		s.OnRemove(func(got feed.DiscoveryKey, open *feed.Feed) {
			if got != dk || open != f.Feed() {
				t.Errorf("told of %s", got)
			}
			if isClosed(f.Feed()) {
				t.Error("the feed is closed already")
			}
			told = append(told, "removed")
		})
		for range 2 {
			if err := s.Remove(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"active false", "removed"}; !slices.Equal(told, want) {
			t.Errorf("callbacks %q, want %q", told, want)
		}
		if _, err := f.GetLocal(ctx, 0); !errors.Is(err, feed.ErrClosed) {
			t.Errorf("its session: %v", err)
		}
		gone := func(s *corestore.Store) {
			t.Helper()
			_, _, err := s.Resolve(ctx, dk)
			if !errors.Is(err, corestore.ErrRemoved) || !errors.Is(err, corestore.ErrUnknownFeed) {
				t.Errorf("Resolve: %v, want ErrRemoved", err)
			}
			if entries := list(t, s); len(entries) != 1 || entries[0].Key != other.Key() {
				t.Errorf("list %+v", entries)
			}
			for e, err := range s.Removed(ctx) {
				if err != nil || e.Key != key || !e.Removed {
					t.Errorf("removed: %+v, %v", e, err)
				}
			}
			if e, ok, err := s.Find(ctx, key); err != nil || !ok || !e.Removed || e.Name != "a" {
				t.Errorf("find: %+v, %v, %v", e, ok, err)
			}
		}
		gone(s)
		closeStore(t, s)

		s = open(t, ds, corestore.Options{ReadOnly: true})
		gone(s)
		if _, err := s.Keyed(ctx, key); !errors.Is(err, corestore.ErrReadOnly) {
			t.Errorf("brought back read-only: %v", err)
		}
		closeStore(t, s)

		s = open(t, ds, corestore.Options{})
		gone(s)
		inspected, release, err := s.Inspect(ctx, key)
		if err != nil || inspected.Info().Length != 2 {
			t.Fatalf("inspect: %v", err)
		}
		gone(s) // although it is open
		ways := []func() (*feed.Session, error){
			func() (*feed.Session, error) { return s.Keyed(ctx, key) },
			func() (*feed.Session, error) { return s.Named(ctx, "a") },
			func() (*feed.Session, error) { return s.Discovered(ctx, dk) },
			func() (*feed.Session, error) { return s.Get(ctx, key.Hex()) },
		}
		for i, get := range ways {
			back := must(t)(get())
			wantBlocks(t, back, "one", "two")
			if !back.Info().Writable {
				t.Errorf("way %d: not writable", i)
			}
			if _, release, err := s.Resolve(ctx, dk); err != nil {
				t.Errorf("way %d: Resolve: %v", i, err)
			} else {
				release()
			}
			if n := len(list(t, s)); n != 2 {
				t.Errorf("way %d: %d feeds", i, n)
			}
			if err := s.Remove(ctx, key); err != nil {
				t.Fatal(err)
			}
			gone(s)
		}
		release()
		if err := s.Remove(ctx, foreignKey); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("of a feed that is not here: %v", err)
		}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
			t.Errorf("delete: %v", err)
		}
		if again := must(t)(s.Named(ctx, "a")).Info(); again.Length != 0 || again.Fork != 1 {
			t.Errorf("made again: %+v", again)
		}
	})
}

// A removed feed that another name of the store leads to comes back by it too.
func TestNamedBringsBackARemovedFeedOfAnAlias(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Fresh(ctx))
		appendText(t, f, "x")
		if err := s.Alias(ctx, "alias", f.Key()); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, f.Key()); err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, must(t)(s.Named(ctx, "alias")), "x")
	})
}

// Every write of a removal, and of bringing back, is in turn the last one: the feed is in the group or not, and whole.
func TestRemoveIsNeverHalf(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		for n := 0; ; n++ {
			ctx := t.Context()
			memory := newMemory()
			ds := &failing{Batching: memory, atomic: atomic, left: -1}
			s := open(t, ds, corestore.Options{})
			f := must(t)(s.Named(ctx, "a"))
			key := f.Key()
			appendText(t, f, "one", "two")
			ds.mu.Lock()
			ds.left = n
			ds.mu.Unlock()
			removed := s.Remove(ctx, key)
			_, back := s.Keyed(ctx, key)
			broken := ds.broken()
			_ = s.Close()
			for _, err := range []error{removed, back} {
				if err != nil && (!broken || !errors.Is(err, errBroken)) {
					t.Errorf("write %d: %v", n, err)
				}
			}

			s = open(t, &failing{Batching: memory, atomic: atomic, left: -1}, corestore.Options{})
			e, ok, err := s.Find(ctx, key)
			if !ok || err != nil {
				t.Fatalf("write %d: the feed is lost: %v", n, err)
			}
			_, release, err := s.Resolve(ctx, key.DiscoveryKey())
			if e.Removed != errors.Is(err, corestore.ErrRemoved) || !e.Removed && err != nil {
				t.Errorf("write %d: removed %v and %v", n, e.Removed, err)
			}
			if err == nil {
				release()
			}
			f = must(t)(s.Named(ctx, "a"))
			wantBlocks(t, f, "one", "two")
			if err := f.Feed().Check(ctx); err != nil {
				t.Errorf("write %d: %v", n, err)
			}
			closeStore(t, s)
			if !broken {
				if n < 2 {
					t.Errorf("only %d writes", n)
				}
				break
			}
		}
	}
}

// A feed is removed while others append to it, read it, bring it back, and while peers ask for it.
func TestRemoveConcurrentlyWithAppendsAndGets(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		first := must(t)(s.Named(ctx, "a"))
		key := first.Key()
		_ = first.Close()
		var mu sync.Mutex
		active := false
		s.OnActive(func(_ *feed.Feed, now bool) {
			mu.Lock()
			defer mu.Unlock()
			if active == now {
				t.Errorf("told twice that active is %v", now)
			}
			active = now
		})
		s.OnRemove(func(feed.DiscoveryKey, *feed.Feed) {
			mu.Lock()
			defer mu.Unlock()
			if active {
				t.Error("removed while it is told as active")
			}
		})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		appended := 0 // by the only appender
		loop := func(work func() error) {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := work()
					if err != nil && !errors.Is(err, feed.ErrClosed) && !errors.Is(err, feed.ErrNotAvailable) && !errors.Is(err, feed.ErrOutOfRange) && !errors.Is(err, corestore.ErrRemoved) {
						t.Error(err)
						return
					}
				}
			})
		}
		loop(func() error {
			f, err := s.Named(ctx, "a")
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err = f.Append(ctx, []byte("x")); err == nil {
				appended++
			}
			return err
		})
		loop(func() error {
			f, err := s.Keyed(ctx, key)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.GetLocal(ctx, 0)
			return err
		})
		loop(func() error {
			_, release, err := s.Resolve(ctx, key.DiscoveryKey())
			if err == nil {
				release()
			}
			return err
		})
		for range 30 {
			if err := s.Remove(ctx, key); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
		f := must(t)(s.Named(ctx, "a"))
		if n := f.Info().Length; n < uint64(appended) {
			t.Errorf("length %d after %d appends", n, appended)
		}
		if err := f.Feed().Check(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestSessionOfAStoreOwnsWhatItMade(t *testing.T) {
	ctx := t.Context()
	s := open(t, newMemory(), corestore.Options{})
	handle := s.Session()
	nested := handle.Namespace("n").Namespace("m").Session()
	a, b, c := must(t)(s.Named(ctx, "a")), must(t)(handle.Named(ctx, "a")), must(t)(nested.Named(ctx, "a"))
	if a.Key() != b.Key() || a.Key() == c.Key() || must(t)(s.Namespace("n").Namespace("m").Named(ctx, "a")).Key() != c.Key() {
		t.Error("the namespace of a session is not that of its store")
	}
	if n := len(list(t, handle)); n != 2 {
		t.Errorf("a session of the root lists %d feeds, want 2", n)
	}
	if n := len(list(t, nested)); n != 1 {
		t.Errorf("a session of a namespace lists %d feeds, want 1", n)
	}
	closeStore(t, handle)
	closeStore(t, handle)
	for name, session := range map[string]*feed.Session{"root's": a, "nested's": c} {
		appendText(t, session, "x")
		wantBlocks(t, session, "x")
		_ = name
	}
	if _, err := b.GetLocal(ctx, 0); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("the handle's session: %v", err)
	}
	calls := map[string]error{}
	_, calls["Named"] = handle.Named(ctx, "a")
	_, calls["Fresh"] = handle.Fresh(ctx)
	_, calls["Default"] = handle.Default(ctx)
	_, calls["Session"] = handle.Session().Keyed(ctx, a.Key())
	_, calls["Namespace"] = handle.Namespace("x").Keyed(ctx, a.Key())
	_, calls["Value"] = handle.Value(ctx, "v")
	calls["Remove"] = handle.Remove(ctx, a.Key())
	calls["Delete"] = handle.Delete(ctx, a.Key(), corestore.DeleteOptions{})
	for name, err := range calls {
		if !errors.Is(err, corestore.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	closeStore(t, s) // the root closes everything
	if _, err := c.GetLocal(ctx, 0); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("a session after the root's Close: %v", err)
	}
	if _, err := nested.Named(ctx, "a"); !errors.Is(err, corestore.ErrClosed) {
		t.Errorf("a handle after the root's Close: %v", err)
	}
}

func TestListByNamespaceFollowsTheOrderOfTheFeeds(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		ns := s.Namespace("n")
		for _, name := range []string{"z", "y", "x"} {
			must(t)(ns.Named(ctx, name))
			must(t)(s.Named(ctx, name))
		}
		if err := ns.Alias(ctx, "a", must(t)(ns.Named(ctx, "y")).Key()); err != nil {
			t.Fatal(err)
		}
		if err := ns.Remove(ctx, must(t)(ns.Named(ctx, "x")).Key()); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range list(t, ns) {
			names = append(names, e.Name)
		}
		if want := []string{"z", "y"}; !slices.Equal(names, want) {
			t.Errorf("names %q, want %q", names, want)
		}
		if n := len(list(t, s.Namespace("empty"))); n != 0 {
			t.Errorf("%d feeds in a namespace without names", n)
		}
	})
}
