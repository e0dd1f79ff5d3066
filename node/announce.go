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
	gone := func() bool {
		e, ok, err := r.store.Find(ctx, key)
		return err == nil && (!ok || e.Removed)
	}
	for {
		r.mu.Lock()
		if _, known := r.announced[dk]; known {
			r.mu.Unlock()
			return
		}
		r.announced[dk] = struct{}{}
		l := r.listening(dk)
		l.announce++
		r.tellListening(dk, l)
		// It may have been removed before it was on the list, and then nobody takes it off.
		if !gone() {
			return
		}
		r.mu.Lock()
		if l := r.unannounce(dk); l != nil {
			r.tellListening(dk, l)
		} else {
			r.mu.Unlock()
		}
		// It may be back, and whoever brought it back may have found it on the list.
		if gone() {
			return
		}
	}
}

// unannounce ends what announceFeed has begun, and returns who is to be told, or nil. mu is held.
func (r *Replicator) unannounce(dk feed.DiscoveryKey) *listening {
	if _, known := r.announced[dk]; !known {
		return nil
	}
	delete(r.announced, dk)
	l := r.listens[dk]
	l.announce--
	return l
}

// conceals tells whether the policy keeps dk from being announced, whoever wants it to be.
func (r *Replicator) conceals(dk feed.DiscoveryKey) bool {
	return r.opts.Announce == AnnounceDefault && dk != r.store.DefaultKey().DiscoveryKey()
}
