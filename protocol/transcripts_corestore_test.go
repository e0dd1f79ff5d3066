package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// twoStores is the recorded conversation of two corestores, of which b has two feeds.
type twoStores struct {
	HandshakeHash vectors.Hex
	PrimaryKey    vectors.Hex `json:"writer_primaryKey"`
	Cores         []struct {
		Name   string
		Key    vectors.Hex
		Blocks []vectors.Hex
	}
	Log []struct {
		transcriptEntry
		Key vectors.Hex
	}
}

func loadTwoStores(t *testing.T) twoStores {
	t.Helper()
	var file struct{ Corestore twoStores }
	vectors.Load(t, "transcripts.json", &file)
	if len(file.Corestore.Log) == 0 {
		t.Fatal("file without the corestores' log")
	}
	return file.Corestore
}

func TestVectorsTranscriptsCorestoreAsReader(t *testing.T) {
	t.Parallel()
	v := loadTwoStores(t)
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := newPipe(1 << 20)
		unknown := func(context.Context, feed.DiscoveryKey) (*Exchange, error) { return nil, nil }
		c := NewConn(ours, Config{Initiator: true, Binding: v.HandshakeHash, OnOpen: unknown})
		newRunner(t).run(c)
		p := &player{t: t, stream: theirs}
		opened := map[string]*feed.Feed{}
		var current *feed.Feed
		value := make(chan []byte, 1)
		for _, e := range v.Log {
			switch {
			case e.Role == "writer":
				p.play(e.Frame)
			case e.Role == "reader":
				for _, r := range records(t, e.Frame) {
					if r.channel != 0 {
						continue
					}
					if r.typ == 1 && !bytes.Equal(p.opens[len(opened)-1].payload, r.payload) {
						t.Errorf("our open is %x, recorded is %x", p.opens[len(opened)-1].payload, r.payload)
					}
					if r.typ == 2 && !slices.Contains(p.rejects, uint64(r.payload[0])) {
						t.Errorf("channel %d is not rejected", r.payload[0])
					}
				}
			case strings.HasPrefix(e.Event, "reader opens"):
				key := feed.Key([32]byte{})
				if e.Key != nil {
					key = feed.Key(e.Key)
				}
				for _, core := range v.Cores {
					if strings.HasSuffix(e.Event, core.Name) {
						key = feed.Key(core.Key)
					}
				}
				current = createFeed(t, feed.Options{Key: &key})
				opened[e.Event] = current
				if err := c.Attach(exchange(t, current, true)); err != nil {
					t.Fatal(err)
				}
				p.settle()
			case e.Event == "reader: get 1":
				s := session(t, current)
				defer s.Close()
				go func() {
					if b, err := s.Get(context.Background(), 1); err == nil {
						value <- b
					}
				}()
				p.settle()
			case e.Event == "reader: got 1":
				var want vectors.Hex
				if err := json.Unmarshal(e.Value, &want); err != nil {
					t.Fatal(err)
				}
				select {
				case b := <-value:
					if !bytes.Equal(b, want) {
						t.Errorf("block 1 is %x, want %s", b, want)
					}
				default:
					t.Error("block 1 did not come")
				}
			}
		}
		if st := c.Stats(); len(opened) != 3 || st.Channels != 2 || st.Violations != 0 || st.Undecided != 0 {
			t.Errorf("opened %d feeds; at the end %+v", len(opened), st)
		}
	})
}

func TestVectorsTranscriptsCorestoreAsWriter(t *testing.T) {
	t.Parallel()
	v := loadTwoStores(t)
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := newPipe(1 << 20)
		asked := 0
		c := NewConn(ours, Config{Binding: v.HandshakeHash, OnOpen: func(context.Context, feed.DiscoveryKey) (*Exchange, error) {
			asked++
			return nil, nil
		}})
		for _, core := range v.Cores {
			pair := feed.KeyPairFromSeed(storeSeed(t, v.PrimaryKey, core.Name))
			key := feed.Key(core.Key)
			f := createFeed(t, feed.Options{Key: &key, KeyPair: &pair})
			for _, b := range core.Blocks {
				appendBlocks(t, f, b)
			}
			if err := c.Attach(exchange(t, f, true)); err != nil {
				t.Fatal(err)
			}
		}
		newRunner(t).run(c)
		p := &player{t: t, stream: theirs}
		p.settle()
		var want [][]byte
		for _, e := range v.Log {
			if e.Role == "reader" {
				p.write(e.Frame)
				p.settle()
			}
			if e.Role != "writer" {
				continue
			}
			for _, r := range records(t, e.Frame) {
				switch {
				case r.channel != 0 && r.typ == wire.TypeData:
					want = append(want, r.payload)
				case r.channel == 0 && r.typ == 2 && !slices.Contains(p.rejects, uint64(r.payload[0])):
					t.Errorf("channel %d is not rejected", r.payload[0])
				case r.channel == 0 && r.typ == 1:
					if len(p.opens) == 0 || !bytes.Equal(p.opens[0].payload, r.payload) {
						t.Fatalf("our opens are %v, recorded is %x", p.opens, r.payload)
					}
					p.opens = p.opens[1:]
				}
			}
		}
		var got [][]byte
		for _, m := range p.answers {
			got = append(got, m.Append(nil))
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("answers are\n%x, recorded are\n%x", got, want)
		}
		if st := c.Stats(); st.Channels != 2 || st.Violations != 0 || asked != 1 {
			t.Errorf("asked for %d feeds; at the end %+v", asked, st)
		}
	})
}

// storeSeed derives the key pair's seed of a name as Corestore does: BLAKE2b, keyed with the primary
// key, over H(H("corestore") || 0), the root namespace of zeros, and the name.
func storeSeed(t *testing.T, primaryKey []byte, name string) [32]byte {
	t.Helper()
	h, err := blake2b.New256(primaryKey)
	if err != nil {
		t.Fatal(err)
	}
	ns := blake2b.Sum256([]byte("corestore"))
	ns = blake2b.Sum256(append(ns[:], 0))
	h.Write(ns[:])
	h.Write(make([]byte, 32))
	h.Write([]byte(name))
	return [32]byte(h.Sum(nil))
}
