package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

const (
	maxPeerParams = 64 // addresses that one request may name
	redialMin     = 500 * time.Millisecond
	redialMax     = 15 * time.Second // also how soon a lost peer is dialled again
	dialTimeout   = 20 * time.Second
	retryFetch    = 100 * time.Millisecond // until the exchange of a feed is in place
	aloneAfter    = 10 * time.Second       // before who looks for peers and finds nobody is told so (command line's contract)
)

// reach is a feed's connection to the world for as long as a request needs it: the feed is joined, and
// the peers that the request names are dialled, again and again.
type reach struct {
	s       *Server
	n       *node.Node
	key     feed.Key
	session *feed.Session
	group   *lifecycle.Group
	leave   func()
	forget  []func() // for each peer that is dialled
	began   time.Time

	pending atomic.Int32 // first attempts that have not ended: dials and the first look-up
}

// reach starts the node if need be. The caller calls close.
func (s *Server) reach(ctx context.Context, session *feed.Session, mode dht.Mode, peers []peer.AddrInfo) (*reach, error) {
	n, err := s.online(ctx)
	if err != nil {
		return nil, err
	}
	leave, err := n.Join(session.Key(), mode)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", session.Key(), err)
	}
	r := &reach{s: s, n: n, key: session.Key(), session: session, group: s.group.Child(), leave: leave, began: time.Now()}
	for _, p := range peers {
		if p.ID == n.Host().ID() {
			continue
		}
		r.forget = append(r.forget, n.AddPeer(p))
		r.pending.Add(1)
		r.group.Go(func(ctx context.Context) { r.dial(ctx, p) })
	}
	if mode&dht.Lookup != 0 {
		r.pending.Add(1)
		r.group.Go(func(ctx context.Context) {
			defer r.pending.Add(-1)
			if err := n.Refresh(ctx, r.key); err != nil {
				s.log.Debug("look-up failed", "feed", r.key.DiscoveryKey().Short(), "err", err)
			}
		})
	}
	return r, nil
}

func (r *reach) close() {
	r.group.Close()
	for _, forget := range r.forget {
		forget()
	}
	r.leave()
}

// dial waits for the first attempt at a peer; the node makes the others.
func (r *reach) dial(ctx context.Context, p peer.AddrInfo) {
	defer r.pending.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := r.n.Connect(ctx, p); err != nil {
		r.s.log.Debug("dial failed", "peer", p.ID, "err", err)
	}
}

// fetch brings blocks. It returns when they are stored, when ctx ends, or, with feed.ErrClosed, when the session has.
func (r *reach) fetch(ctx context.Context, w feed.Want) error {
	for {
		err := feed.ErrNotAvailable
		if src := r.session.Feed().Source(); src != nil {
			err = src.Fetch(ctx, w)
		}
		if !errors.Is(err, feed.ErrNotAvailable) && !errors.Is(err, feed.ErrClosed) {
			return err
		}
		if r.session.Closed() {
			return feed.ErrClosed
		}
		if !sleep(ctx, retryFetch) {
			return ctx.Err()
		}
	}
}

// upgrade asks the peers for a longer head.
func (r *reach) upgrade(ctx context.Context) (bool, error) {
	src := r.session.Feed().Source()
	if src == nil {
		return false, nil
	}
	return src.Upgrade(ctx)
}

// greet lets the peers of a feed without blocks know that somebody has fetched it, although nothing has to come: it
// returns when one of them has told its state, when all have been tried in vain, or after headPatience.
func (s *Server) greet(ctx context.Context, session *feed.Session, peers []peer.AddrInfo) error {
	r, err := s.reach(ctx, session, dht.Lookup, peers)
	if err != nil {
		return err
	}
	defer r.close()
	limit, cancel := context.WithTimeout(ctx, headPatience)
	defer cancel()
	for !slices.ContainsFunc(r.n.FeedPeers(r.key), func(p protocol.PeerInfo) bool { return p.Synced }) {
		if r.pending.Load() == 0 && len(r.n.Peers()) == 0 || !sleep(limit, headPoll) {
			break
		}
	}
	return ctx.Err()
}

// alone tells that there is no way by which a peer could come.
func (r *reach) alone() bool {
	shape := r.s.cfg.Status.Shape
	return shape.Network == node.NetworkNone && !shape.MDNS && r.pending.Load() == 0 && len(r.n.Peers()) == 0
}

// nobody tells that every way of finding peers has answered, for at least aloneAfter, and found nobody, or none but those
// who refuse.
func (r *reach) nobody() bool {
	return time.Since(r.began) >= aloneAfter && r.pending.Load() == 0 && len(r.n.FeedPeers(r.key)) == 0 && r.s.unreached(r.n) == "" &&
		r.n.Found(r.key).Undecided == 0
}

// errNobody is the error of who does not wait for peers to come.
func (r *reach) errNobody() *Problem {
	reason, message := r.missing()
	code := CodeNoPeers
	if reason == reasonDenied {
		code = CodeDenied
	} else {
		reason = "no-peers"
	}
	p := Errorf(code, "%s", message)
	p.Reason = reason
	return p
}

// reasonDenied is what a wait is for when every peer that was found refuses.
const reasonDenied = "denied"

// denied says that every peer that was found refuses, or is empty if that is not so.
func denied(f node.Found) string {
	if f.NRefused == 0 || f.Undecided+f.Others > 0 {
		return ""
	}
	where := f.Refused[0].ID.String()
	if addrs := f.Refused[0].Addrs; len(addrs) > 0 {
		where = fmt.Sprintf("%s/p2p/%s", addrs[0], where)
	}
	who := where + " has"
	if f.NRefused > 1 {
		who = fmt.Sprintf("%s and %d more have", where, f.NRefused-1)
	}
	return fmt.Sprintf("every peer that was found refuses: %s ended the connection before anything was said (no p2pcore peer, no room, or a group that lets in only its members); ask its operator to let this node in (p2pcore id), or give another peer with --peer", who)
}

// missing says why nothing comes: a short word for programs, and a line for people.
func (r *reach) missing() (reason, message string) {
	peers := r.n.FeedPeers(r.key)
	if len(peers) > 0 {
		longest := uint64(0)
		for _, p := range peers {
			longest = max(longest, p.RemoteLength)
		}
		have := r.session.Info()
		if a := r.n.FeedAbsent(r.key, feed.Range{End: have.Length}); a.Start < a.End {
			return "no-data", absentText(a, len(peers))
		}
		if have := have.Length; longest <= have {
			return "no-data", fmt.Sprintf("%d peer(s) share this feed, and none has more than its first %d blocks", len(peers), have)
		}
		return "no-data", fmt.Sprintf("%d peer(s) share this feed (longest has %d blocks), but none sends what is missing", len(peers), longest)
	}
	if why := r.s.unreached(r.n); why != "" {
		return "no-network", why
	}
	if why := denied(r.n.Found(r.key)); why != "" {
		return reasonDenied, why
	}
	connected := len(r.n.Peers())
	if errors.Is(r.n.NetworkErr(), node.ErrNoDHT) {
		return "no-peers", fmt.Sprintf("no peer shares this feed (%d connected, no DHT); give --peer, or --network", connected)
	}
	return "no-peers", fmt.Sprintf("looking in network %q: nobody found who shares this feed (%d peers connected)", r.n.Network(), connected)
}

func absentText(r feed.Range, peers int) string {
	if r.End-r.Start == 1 {
		return fmt.Sprintf("no peer has block %d (%d share this feed)", r.Start, peers)
	}
	return fmt.Sprintf("no peer has blocks %d to %d (%d share this feed)", r.Start, r.End-1, peers)
}

// unreached says why n's network is not reached, or is empty if it is, or if there is none.
func (s *Server) unreached(n *node.Node) string {
	if !errors.Is(n.NetworkErr(), dht.ErrNoNetwork) {
		return ""
	}
	if wait := s.cfg.Waiting; wait != nil {
		if why := wait(); why != "" {
			return why
		}
	}
	return fmt.Sprintf("network %q is not reached: no bootstrap peer answers; check --bootstrap and --network", n.Network())
}

// peerParams reads the peer parameters of a request.
func peerParams(r *http.Request) ([]peer.AddrInfo, error) {
	texts := r.URL.Query()["peer"]
	if len(texts) > maxPeerParams {
		return nil, Errorf(CodeUsage, "%d peers named, %d are allowed", len(texts), maxPeerParams)
	}
	return ParsePeers(texts)
}

// ParsePeers reads multiaddresses that end in /p2p/ID, and joins those of the same peer.
func ParsePeers(texts []string) ([]peer.AddrInfo, error) {
	addrs := make([]ma.Multiaddr, 0, len(texts))
	for _, text := range texts {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, Errorf(CodeUsage, "peer address %q: %v", abbreviate(text), err)
		}
		if _, err := peer.AddrInfoFromP2pAddr(a); err != nil {
			return nil, Errorf(CodeUsage, "peer address %q does not end in /p2p/PEERID: %v", abbreviate(text), err)
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, Errorf(CodeUsage, "peer addresses: %v", err)
	}
	return infos, nil
}

func addrStrings(n *node.Node) []string {
	out := []string{}
	for _, a := range n.Addrs() {
		out = append(out, a.String())
	}
	return out
}

// sleep waits, and returns false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
