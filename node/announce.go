package node

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

// AnnouncePolicy says which feeds of a group are announced.
type AnnouncePolicy int

const (
	// AnnounceChosen announces the feeds that Listen or Join is called for, and no other.
	AnnounceChosen AnnouncePolicy = iota
	// AnnounceDefault announces the default feed alone, and looks for its peers: a group of any size costs one record.
	// The default feed is opened for that. Listen and Join announce no other feed, but look it up if they are to; who
	// wants a feed of the group finds the group, and has the feed from there.
	AnnounceDefault
	// AnnounceAll announces every feed of the group, also those made later, until it is removed. Each costs a record.
	AnnounceAll
)

var policyNames = [...]string{AnnounceChosen: "chosen", AnnounceDefault: "default", AnnounceAll: "all"}

// String returns chosen, default or all.
func (p AnnouncePolicy) String() string {
	if p < 0 || int(p) >= len(policyNames) {
		return fmt.Sprintf("AnnouncePolicy(%d)", int(p))
	}
	return policyNames[p]
}

// ParseAnnouncePolicy is the opposite of String.
func ParseAnnouncePolicy(text string) (AnnouncePolicy, error) {
	for p, name := range policyNames {
		if name == text {
			return AnnouncePolicy(p), nil
		}
	}
	return 0, fmt.Errorf("node: announce %q: want chosen, default or all", text)
}

// WithAnnounce is which feeds are announced, AnnounceChosen without it.
func WithAnnounce(p AnnouncePolicy) Option {
	return func(c *config) error {
		if p < AnnounceChosen || p > AnnounceAll {
			return fmt.Errorf("announce: no policy %d", int(p))
		}
		c.announce = p
		return nil
	}
}

// AnnouncePolicy returns what WithAnnounce has set.
func (n *Node) AnnouncePolicy() AnnouncePolicy { return n.cfg.announce }

// announceGroup announces what the policy says.
func (r *Replicator) announceGroup(ctx context.Context) {
	switch r.opts.Announce {
	case AnnounceDefault:
		r.openFace(ctx)
		r.Listen(r.store.DefaultKey().DiscoveryKey(), dht.Announce|dht.Lookup) // until the end
	case AnnounceAll:
		for e, err := range r.store.List(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					r.log.Error("not all feeds are announced", "err", err)
				}
				return
			}
			r.announceFeed(ctx, e.Key)
		}
	}
}

// announceFeed announces a feed of the group until it is removed.
func (r *Replicator) announceFeed(ctx context.Context, key feed.Key) {
	dk := key.DiscoveryKey()
	leave := r.Listen(dk, dht.Announce)
	r.mu.Lock()
	_, known := r.announced[dk]
	if !known {
		r.announced[dk] = leave
	}
	r.mu.Unlock()
	if known {
		leave()
		return
	}
	// It may have been removed before it was on the list, and then nobody takes it off.
	if e, ok, err := r.store.Find(ctx, key); err == nil && (!ok || e.Removed) {
		r.unannounce(dk)
	}
}

// unannounce ends what announceFeed has begun.
func (r *Replicator) unannounce(dk feed.DiscoveryKey) {
	r.mu.Lock()
	leave := r.announced[dk]
	delete(r.announced, dk)
	r.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// conceals tells whether the policy keeps dk from being announced, whoever wants it to be.
func (r *Replicator) conceals(dk feed.DiscoveryKey) bool {
	return r.opts.Announce == AnnounceDefault && dk != r.store.DefaultKey().DiscoveryKey()
}
