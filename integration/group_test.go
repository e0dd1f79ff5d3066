package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/integration/mesh"
	"github.com/p2pcore/p2pcore/node"
)

// groupMember is a store and a node that tell every peer of the group which feed is theirs, and read what they are told of.
type groupMember struct {
	name  string
	store *corestore.Store
	node  *node.Node
	own   *feed.Session

	mu   sync.Mutex
	read map[string]string // block by the key of its feed
	came map[string]int    // peers by name
	fail error
}

func newMember(t *testing.T, ctx context.Context, name string, group *feed.Key) *groupMember {
	t.Helper()
	m := &groupMember{name: name, read: make(map[string]string), came: make(map[string]int)}
	var err error
	m.store, err = corestore.Open(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{DefaultKey: group, Extensions: []string{"load"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.store.Close() })
	if m.own, err = m.store.Fresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.own.Append(ctx, []byte("of "+name)); err != nil {
		t.Fatal(err)
	}
	m.store.OnPeerAdd(m.greet)
	m.store.OnExtension(m.load)
	m.node, err = node.New(m.store, node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")), node.WithNetwork(node.NetworkNone), node.WithMDNS(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.node.Close() })
	return m
}

func (m *groupMember) greet(ctx context.Context, p corestore.Peer) {
	err := p.Extension(ctx, "load", []byte(m.own.Key().String()))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.came[p.Name()]++
	m.fail = err
}

func (m *groupMember) load(ctx context.Context, typ string, message []byte, from corestore.Peer) {
	block, err := m.loaded(ctx, string(message))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.fail = fmt.Errorf("%s, told by %s: %w", typ, from.Name(), err)
		return
	}
	m.read[string(message)] = block
}

func (m *groupMember) loaded(ctx context.Context, key string) (string, error) {
	s, err := m.store.Get(ctx, key)
	if err != nil {
		return "", err
	}
	defer s.Close()
	block, err := s.Get(ctx, 0)
	return string(block), err
}

// TestProposalsExampleOverLibp2p: five peers share the default feed of the first. Each tells all others the key of a feed
// of its own by an extension message, they load it with get, and it replicates over the one stream that each pair has.
func TestProposalsExampleOverLibp2p(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	members := []*groupMember{newMember(t, ctx, "0", nil)}
	key := members[0].store.DefaultKey()
	for i := range 4 {
		members = append(members, newMember(t, ctx, fmt.Sprint(i+1), &key))
	}
	stranger := newMember(t, ctx, "stranger", nil) // with a group of its own
	everybody := append(slices.Clone(members), stranger)
	for i, m := range everybody {
		for _, other := range everybody[:i] {
			if err := m.node.Connect(ctx, peer.AddrInfo{ID: other.node.Host().ID(), Addrs: other.node.Host().Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, m := range members {
		err := mesh.Poll(ctx, func(context.Context) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if heard := len(m.read); m.fail == nil && heard < len(members)-1 {
				return fmt.Errorf("%s has heard of %d others", m.name, heard)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		if m.fail != nil {
			t.Error(m.fail)
		}
		for _, other := range members {
			if got := m.read[other.own.Key().String()]; other != m && got != "of "+other.name {
				t.Errorf("%s has read %q of %s", m.name, got, other.name)
			}
			if n := m.came[other.node.Host().ID().String()]; other != m && n != 1 {
				t.Errorf("%s was told %d times that %s came", m.name, n, other.name)
			}
		}
		m.mu.Unlock()
	}
	stranger.mu.Lock()
	defer stranger.mu.Unlock()
	if len(stranger.read) > 0 || len(stranger.came) > 0 {
		t.Errorf("the stranger has heard %v of %v", stranger.read, stranger.came)
	}
}
