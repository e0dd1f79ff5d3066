package integration

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

// lie is the content that a liar slips in. Nobody may ever store it.
var lie = []byte("this is what the writer never said")

// liar is a core that changes what it proves.
type liar struct {
	*feed.Feed
	change func(p *feed.Proof) bool // false: nothing to change in this one
	told   atomic.Int64
}

func (l *liar) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	proved, err := l.Feed.Prove(ctx, reqs)
	for i := range proved {
		if proved[i].Proof != nil && l.change(proved[i].Proof) {
			l.told.Add(1)
		}
	}
	return proved, err
}

// mendacious lists ways to lie, by what is wrong.
var mendacious = map[string]func(p *feed.Proof) bool{
	"block": func(p *feed.Proof) bool {
		if p.Block == nil {
			return false
		}
		p.Block.Value = bytes.Clone(p.Block.Value)
		copy(p.Block.Value, lie)
		return true
	},
	"one bit of a block": func(p *feed.Proof) bool {
		if p.Block == nil {
			return false
		}
		p.Block.Value = bytes.Clone(p.Block.Value)
		p.Block.Value[len(p.Block.Value)-1] ^= 1
		return true
	},
	"node": func(p *feed.Proof) bool {
		if p.Block == nil || len(p.Block.Nodes) == 0 {
			return false
		}
		copy(p.Block.Nodes[len(p.Block.Nodes)-1].Hash[:], lie)
		return true
	},
	"root": func(p *feed.Proof) bool {
		if p.Upgrade == nil || len(p.Upgrade.Nodes) == 0 {
			return false
		}
		copy(p.Upgrade.Nodes[0].Hash[:], lie)
		return true
	},
	"signature": func(p *feed.Proof) bool {
		if p.Upgrade == nil {
			return false
		}
		p.Upgrade.Signature = bytes.Clone(p.Upgrade.Signature)
		copy(p.Upgrade.Signature[2:], lie)
		return true
	},
}

func TestLiesAreNeitherStoredNorReturned(t *testing.T) {
	const blocks = 400
	honest := newStore(t, nil)
	log, err := honest.Named(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	want := make([][]byte, blocks)
	for i := range want {
		want[i] = fmt.Appendf(nil, "block %d, which is long enough for a lie to fit in", i)
	}
	if _, err := log.Append(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	server := newLibraryNode(t, honest)

	for name, change := range mendacious {
		t.Run(name, func(t *testing.T) {
			// The liar has the whole feed, honestly fetched.
			copied := newStore(t, nil)
			theirs, err := copied.Keyed(t.Context(), log.Key())
			if err != nil {
				t.Fatal(err)
			}
			fetcher := newLibraryNode(t, copied)
			connect(t, fetcher, server)
			if err := theirs.Download(t.Context(), feed.Range{Start: 0, End: blocks}); err != nil {
				t.Fatal(err)
			}
			fetcher.Close()
			l := &liar{Feed: theirs.Feed(), change: change}
			address := l.serve(t)

			ds := dssync.MutexWrap(datastore.NewMapDatastore())
			reader := newStore(t, ds)
			mine, err := reader.Keyed(t.Context(), log.Key())
			if err != nil {
				t.Fatal(err)
			}
			n := newLibraryNode(t, reader)
			got := make(chan error, 1)
			go func() { got <- mine.Download(t.Context(), feed.Range{Start: 0, End: blocks}) }()
			if err := n.Connect(t.Context(), address); err != nil {
				t.Fatal(err)
			}
			connect(t, n, server)
			if err := <-got; err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if b, err := mine.GetLocal(t.Context(), uint64(i)); err != nil || !bytes.Equal(b, want[i]) {
					t.Fatalf("block %d is %q (%v)", i, b, err)
				}
			}
			if err := mine.Feed().Check(t.Context()); err != nil {
				t.Error(err)
			}
			results, err := ds.Query(t.Context(), query.Query{})
			if err != nil {
				t.Fatal(err)
			}
			defer results.Close()
			for r := range results.Next() {
				if bytes.Contains(r.Value, lie[:16]) {
					t.Errorf("the record %s holds the lie", r.Key)
				}
			}
			t.Logf("%d lies were told", l.told.Load())
		})
	}
}

// TestLiarAloneAchievesNothing gives a reader nobody but the liar.
func TestLiarAloneAchievesNothing(t *testing.T) {
	store := newStore(t, nil)
	log, err := store.Named(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := log.Append(t.Context(), fmt.Appendf(nil, "block %d, which is long enough for a lie to fit in", i)); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range mendacious {
		t.Run(name, func(t *testing.T) {
			told := make(chan struct{}, 1)
			l := &liar{Feed: log.Feed(), change: func(p *feed.Proof) bool {
				ok := change(p)
				if ok {
					select {
					case told <- struct{}{}:
					default:
					}
				}
				return ok
			}}
			address := l.serve(t)
			reader := newStore(t, nil)
			mine, err := reader.Keyed(t.Context(), log.Key())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			n := newLibraryNode(t, reader)
			got := make(chan error, 1)
			go func() { got <- mine.Download(ctx, feed.Range{Start: 3, End: 4}) }()
			if err := n.Connect(ctx, address); err != nil {
				t.Fatal(err)
			}
			<-told
			n.Close() // what has been received has been judged when the node is closed
			if mine.Has(3) {
				t.Error("the block of a liar is stored")
			}
			if err := mine.Feed().Check(t.Context()); err != nil {
				t.Error(err)
			}
			cancel()
			if err := <-got; err == nil {
				t.Error("the download from a liar succeeded")
			}
		})
	}
}

// serve answers replication streams with lies, on a host of its own.
func (l *liar) serve(t *testing.T) peer.AddrInfo {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	x := protocol.NewExchange(l, protocol.ExchangeOptions{})
	t.Cleanup(func() {
		h.Close()
		x.Close()
	})
	h.SetStreamHandler(node.ProtocolPlain, func(s network.Stream) {
		conn, err := l.accept(h, s)
		if err != nil {
			s.Reset()
			return
		}
		conn.Attach(x)
		conn.Run(context.Background())
	})
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

func (l *liar) accept(h host.Host, s network.Stream) (*protocol.Conn, error) {
	theirs, err := protocol.ReadFrame(s, 1024)
	if err != nil {
		return nil, err
	}
	ours := protocol.Opening{Random: [32]byte{1}, Boot: 1, Number: 1}.Append(nil)
	if err := protocol.WriteFrame(s, ours); err != nil {
		return nil, err
	}
	binding := protocol.PlainBinding([]byte(s.Conn().RemotePeer()), []byte(h.ID()), theirs, ours)
	return protocol.NewConn(s, protocol.Config{Binding: binding[:], Peer: s.Conn().RemotePeer().String()}), nil
}

func newStore(t *testing.T, ds datastore.Batching) *corestore.Store {
	t.Helper()
	if ds == nil {
		ds = dssync.MutexWrap(datastore.NewMapDatastore())
	}
	s, err := corestore.Open(t.Context(), ds, corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newLibraryNode is a node that meets only those it is connected with.
func newLibraryNode(t *testing.T, s *corestore.Store) *node.Node {
	t.Helper()
	n, err := node.New(s, node.WithNetwork(node.NetworkNone), node.WithMDNS(false),
		node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func connect(t *testing.T, from, to *node.Node) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.Host().ID(), Addrs: to.Host().Addrs()}); err != nil {
		t.Fatal(err)
	}
}
