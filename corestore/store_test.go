package corestore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

func newMemory() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

// backends are the datastores that the suite runs on.
var backends = []struct {
	name string
	make func(t testing.TB) datastore.Batching
}{
	{"memory", func(testing.TB) datastore.Batching { return newMemory() }},
	{"pebble", func(t testing.TB) datastore.Batching {
		d, err := disk.Open(t.TempDir(), disk.Options{MemTableBytes: 4 << 20, CacheBytes: 1 << 20, Reserve: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Errorf("close datastore: %v", err)
			}
		})
		return d.Datastore()
	}},
}

func onEach(t *testing.T, test func(t *testing.T, ds datastore.Batching)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b.make(t))
		})
	}
}

func open(t testing.TB, ds datastore.Batching, opts corestore.Options) *corestore.Store {
	t.Helper()
	s, err := corestore.Open(context.Background(), ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *corestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close store: %v", err)
	}
}

// must returns a session that is closed with the test, if not before.
func must(t testing.TB) func(*feed.Session, error) *feed.Session {
	return func(s *feed.Session, err error) *feed.Session {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func appendText(t testing.TB, s *feed.Session, blocks ...string) {
	t.Helper()
	for _, b := range blocks {
		if _, err := s.Append(context.Background(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantBlocks(t testing.TB, s *feed.Session, blocks ...string) {
	t.Helper()
	if n := s.Info().Length; n != uint64(len(blocks)) {
		t.Errorf("length %d, want %d", n, len(blocks))
	}
	for i, want := range blocks {
		got, err := s.GetLocal(context.Background(), uint64(i))
		if err != nil || string(got) != want {
			t.Errorf("block %d: %q, %v; want %q", i, got, err, want)
		}
	}
	if err := s.Feed().Check(context.Background()); err != nil {
		t.Errorf("check: %v", err)
	}
}

func list(t testing.TB, s *corestore.Store) []corestore.Entry {
	t.Helper()
	var all []corestore.Entry
	for e, err := range s.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestFeedsSurviveReopening(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		named := must(t)(s.Named(ctx, "journal"))
		inner := must(t)(s.Namespace("a").Named(ctx, "journal"))
		fresh := must(t)(s.Fresh(ctx))
		foreign := feed.DefaultManifest(feed.NewKeyPair().Public()).Key()
		keyed := must(t)(s.Keyed(ctx, foreign))
		appendText(t, named, "n0", "n1")
		appendText(t, inner, "i0")
		appendText(t, fresh, "f0")
		if _, err := keyed.Append(ctx, []byte("x")); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("append to a reader's feed: %v, want ErrNotWritable", err)
		}
		if named.Key() == inner.Key() {
			t.Error("the same name in two namespaces is the same feed")
		}
		if err := s.Alias(ctx, "free", fresh.Key()); err != nil {
			t.Fatal(err)
		}
		keys := []feed.Key{named.Key(), inner.Key(), fresh.Key(), keyed.Key()}
		closeStore(t, s)
		if _, err := named.GetLocal(ctx, 0); !errors.Is(err, feed.ErrClosed) {
			t.Errorf("session after Close: %v, want ErrClosed", err)
		}

		s = open(t, ds, corestore.Options{})
		if got := must(t)(s.Named(ctx, "journal")); got.Key() != keys[0] {
			t.Error("the name leads to another feed")
		} else {
			appendText(t, got, "n2")
			wantBlocks(t, got, "n0", "n1", "n2")
		}
		got := must(t)(s.Keyed(ctx, keys[2]))
		appendText(t, got, "f1")
		wantBlocks(t, got, "f0", "f1")
		if got := must(t)(s.Named(ctx, "free")); got.Key() != keys[2] || got.Feed() != must(t)(s.Keyed(ctx, keys[2])).Feed() {
			t.Error("the alias leads to another feed, or to a second one")
		}
		got = must(t)(s.Keyed(ctx, keys[0]))
		appendText(t, got, "n3") // the secret follows from the name
		wantBlocks(t, must(t)(s.Keyed(ctx, keys[1])), "i0")

		var listed []feed.Key
		for _, e := range list(t, s) {
			listed = append(listed, e.Key)
			if e.DiscoveryKey != e.Key.DiscoveryKey() || e.Writable != (e.Key != foreign) {
				t.Errorf("entry %+v", e)
			}
		}
		if !slices.Equal(listed, keys) {
			t.Errorf("list %v, want %v", listed, keys)
		}
		e, ok, err := s.Find(ctx, keys[2])
		if err != nil || !ok || e.Name != "free" || e.Namespace != (corestore.Namespace{}) {
			t.Errorf("Find: %+v, %v, %v", e, ok, err)
		}
		if within := list(t, s.Namespace("a")); len(within) != 1 || within[0].Key != keys[1] || within[0].Name != "journal" {
			t.Errorf("list of a namespace: %+v", within)
		}
		for i, key := range append(keys, feed.Key{1}) {
			if stored, err := s.Stored(ctx, key); err != nil || stored != (i < len(keys)) {
				t.Errorf("Stored(%d) is %v, %v", i, stored, err)
			}
		}
	})
}

func TestNames(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		long := string(make([]byte, corestore.MaxNameBytes))
		for _, name := range []string{"a", "/", "a/b", "..", "ünï", "\x00\xff", long} {
			session := must(t)(s.Named(ctx, name))
			key, ok, err := s.LookupName(ctx, name)
			if err != nil || !ok || key != session.Key() {
				t.Errorf("LookupName(%.10q): %v, %v, %v", name, key, ok, err)
			}
		}
		for _, name := range []string{"", long + "x"} {
			_, namedErr := s.Named(ctx, name)
			_, _, lookupErr := s.LookupName(ctx, name)
			aliasErr := s.Alias(ctx, name, feed.Key{})
			for _, err := range []error{namedErr, lookupErr, aliasErr} {
				if !errors.Is(err, corestore.ErrName) {
					t.Errorf("name of %d bytes: %v, want ErrName", len(name), err)
				}
			}
		}
		if _, ok, err := s.LookupName(ctx, "none"); ok || err != nil {
			t.Errorf("LookupName of nothing: %v, %v", ok, err)
		}
		if _, ok, err := s.Namespace("n").LookupName(ctx, "a"); ok || err != nil {
			t.Errorf("LookupName in another namespace: %v, %v", ok, err)
		}
		a, _, _ := s.LookupName(ctx, "a")
		b, _, _ := s.LookupName(ctx, "a/b")
		if err := s.Alias(ctx, "a", b); !errors.Is(err, corestore.ErrNameTaken) {
			t.Errorf("Alias of another's name: %v, want ErrNameTaken", err)
		}
		if err := s.Alias(ctx, "a", a); err != nil {
			t.Errorf("Alias of its own name: %v", err)
		}
		if err := s.Alias(ctx, "x", feed.Key{1}); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("Alias of nothing: %v, want ErrUnknownFeed", err)
		}
		if err := s.Alias(ctx, "second", a); err != nil {
			t.Fatal(err)
		}
		if e, _, _ := s.Find(ctx, a); e.Name != "a" || len(e.Names) != 2 {
			t.Errorf("entry with two names: %+v", e)
		}
	})
}

// A feed that came by key becomes writable when its name, or its key pair, turns up here.
func TestSecretsAreAdopted(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		nameKey := feed.DefaultManifest(s.KeyPair("late").Public()).Key()
		pair := feed.NewKeyPair()
		pairKey := feed.DefaultManifest(pair.Public()).Key()
		for _, key := range []feed.Key{nameKey, pairKey} {
			if must(t)(s.Keyed(ctx, key)).Info().Writable {
				t.Error("writable by key alone")
			}
		}
		byName, byPair := must(t)(s.Named(ctx, "late")), must(t)(s.Paired(ctx, pair))
		appendText(t, byName, "a")
		appendText(t, byPair, "b")
		appendText(t, must(t)(s.Keyed(ctx, pairKey)), "c")
		closeStore(t, s)

		s = open(t, ds, corestore.Options{})
		session := must(t)(s.Keyed(ctx, pairKey))
		appendText(t, session, "d")
		wantBlocks(t, session, "b", "c", "d")
		session = must(t)(s.Keyed(ctx, nameKey))
		appendText(t, session, "e")
		wantBlocks(t, session, "a", "e")
		if e, ok, err := s.Find(ctx, nameKey); err != nil || !ok || e.Name != "late" || !e.Writable {
			t.Errorf("entry %+v, %v, %v", e, ok, err)
		}
	})
}

// The manifest of the secret is not stored until the feed is written: the store gives it each time.
func TestAdoptedFeedThatWasNeverWrittenReopens(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		key := feed.DefaultManifest(s.KeyPair("late").Public()).Key()
		must(t)(s.Keyed(ctx, key))
		closeStore(t, s)
		for range 2 {
			s = open(t, ds, corestore.Options{})
			if session := must(t)(s.Named(ctx, "late")); session.Key() != key || !session.Info().Writable {
				t.Errorf("info %+v", session.Info())
			}
			closeStore(t, s)
		}
		s = open(t, ds, corestore.Options{})
		appendText(t, must(t)(s.Keyed(ctx, key)), "a")
	})
}

func TestManifestVersionOfANameStays(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{ManifestVersion: 2})
		key := must(t)(s.Named(ctx, "v")).Key()
		closeStore(t, s)
		s = open(t, ds, corestore.Options{})
		session := must(t)(s.Named(ctx, "v"))
		if session.Key() != key || session.Feed().Manifest().Version != 2 {
			t.Errorf("key %v of version %d, want %v of 2", session.Key(), session.Feed().Manifest().Version, key)
		}
		appendText(t, session, "x")
		if _, err := corestore.Open(ctx, newMemory(), corestore.Options{ManifestVersion: 7}); err == nil {
			t.Error("manifest version 7 was taken")
		}
	})
}

func TestPrimaryKey(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		given := [32]byte{1, 2, 3}
		s := open(t, ds, corestore.Options{PrimaryKey: &given})
		key := must(t)(s.Named(ctx, "a")).Key()
		closeStore(t, s)
		for _, pk := range []*[32]byte{nil, &given} {
			s = open(t, ds, corestore.Options{PrimaryKey: pk})
			if got := must(t)(s.Named(ctx, "a")).Key(); got != key {
				t.Error("the primary key has changed")
			}
			closeStore(t, s)
		}
		if _, err := corestore.Open(ctx, ds, corestore.Options{PrimaryKey: &[32]byte{9}}); !errors.Is(err, corestore.ErrPrimaryKey) {
			t.Errorf("another primary key: %v, want ErrPrimaryKey", err)
		}
		a, b := open(t, newMemory(), corestore.Options{}), open(t, newMemory(), corestore.Options{})
		if a.KeyPair("a").Public() == b.KeyPair("a").Public() {
			t.Error("two new stores have one primary key")
		}
	})
}

func TestReadOnly(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		opts := corestore.Options{ReadOnly: true}
		if _, err := corestore.Open(ctx, ds, opts); !errors.Is(err, corestore.ErrReadOnly) {
			t.Errorf("no store: %v, want ErrReadOnly", err)
		}
		s := open(t, ds, corestore.Options{})
		appendText(t, must(t)(s.Named(ctx, "a")), "x")
		closeStore(t, s)

		s = open(t, &untouchable{Batching: ds, t: t}, opts)
		session := must(t)(s.Named(ctx, "a"))
		wantBlocks(t, session, "x")
		if _, err := session.Append(ctx, []byte("y")); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("Append: %v, want ErrNotWritable", err)
		}
		if _, err := session.Clear(ctx, feed.Range{End: 1}); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("Clear: %v, want ErrNotWritable", err)
		}
		if err := session.SetUserData(ctx, "k", []byte("v")); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("SetUserData: %v, want ErrNotWritable", err)
		}
		if _, err := session.Branch(ctx, "b", feed.BranchOptions{}); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("Branch: %v, want ErrNotWritable", err)
		}
		if err := session.Feed().StartMarking(ctx); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("StartMarking: %v, want ErrNotWritable", err)
		}
		pair := s.KeyPair("a")
		if another, err := session.Feed().Session(feed.SessionOptions{KeyPair: &pair}); err == nil {
			if _, err := another.Append(ctx, []byte("y")); !errors.Is(err, feed.ErrNotWritable) {
				t.Errorf("Append with the key pair: %v, want ErrNotWritable", err)
			}
			another.Close()
		}
		_, namedErr := s.Named(ctx, "b")
		_, keyedErr := s.Keyed(ctx, feed.Key{1})
		_, freshErr := s.Fresh(ctx)
		for _, err := range []error{namedErr, keyedErr, freshErr} {
			if !errors.Is(err, corestore.ErrUnknownFeed) || !errors.Is(err, corestore.ErrReadOnly) {
				t.Errorf("got %v, want ErrUnknownFeed and ErrReadOnly", err)
			}
		}
		for _, err := range []error{s.Alias(ctx, "b", session.Key()), s.SetValue(ctx, "v", nil)} {
			if !errors.Is(err, corestore.ErrReadOnly) {
				t.Errorf("got %v, want ErrReadOnly", err)
			}
		}
	})
}

// untouchable fails the test when something writes.
type untouchable struct {
	datastore.Batching
	t *testing.T
}

func (u *untouchable) Put(context.Context, datastore.Key, []byte) error {
	u.t.Error("Put")
	return errors.New("written")
}

func (u *untouchable) Delete(context.Context, datastore.Key) error {
	u.t.Error("Delete")
	return errors.New("written")
}

func (u *untouchable) Batch(context.Context) (datastore.Batch, error) {
	u.t.Error("Batch")
	return nil, errors.New("written")
}

func TestValues(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		if v, err := s.Value(ctx, "node/boot"); v != nil || err != nil {
			t.Errorf("no value: %q, %v", v, err)
		}
		for _, want := range [][]byte{[]byte("1"), []byte("22"), {}} {
			if err := s.SetValue(ctx, "node/boot", want); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			s = open(t, ds, corestore.Options{})
			if v, err := s.Namespace("n").Value(ctx, "node/boot"); v == nil || string(v) != string(want) || err != nil {
				t.Errorf("got %q, %v; want %q", v, err, want)
			}
		}
		if err := s.SetValue(ctx, "node/boot", nil); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Value(ctx, "node/boot"); v != nil || err != nil {
			t.Errorf("removed value: %q, %v", v, err)
		}
		if err := s.SetValue(ctx, "", []byte("x")); err == nil {
			t.Error("an empty key was taken")
		}
	})
}
