package corestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/feed"
)

// staticBatch is how many blocks are copied in one step: enough that the commits do not count, and few enough that
// their proofs are small beside feed.MaxProveBytes of blocks.
const staticBatch = 256

// Staticify makes of a stored feed a static one, with the blocks that it has now and never any other: its key is that of
// feed.StaticManifest, so it names the content, whoever signed it. The blocks are copied, which takes their space once more. Of an encrypted feed
// the copy holds what is stored, the encrypted blocks; the key of the feed does not open it.
//
// Done again, or after a break, it copies what is missing. The session is the caller's to close. The error is
// ErrUnknownFeed, feed.ErrOutOfRange of an empty feed, feed.ErrNotAvailable if a block is not here, feed.ErrStaleFork if the feed is
// truncated meanwhile, or one of Fresh's.
func (s *Store) Staticify(ctx context.Context, key feed.Key) (*feed.Session, error) {
	from, release, err := s.Resolve(ctx, key.DiscoveryKey())
	if err != nil {
		return nil, err
	}
	defer release()
	info := from.Info()
	switch {
	case info.Length == 0:
		return nil, fmt.Errorf("%w: an empty feed has nothing to copy", feed.ErrOutOfRange)
	case info.ContiguousLength < info.Length:
		return nil, fmt.Errorf("%w: block %d of %d", feed.ErrNotAvailable, info.ContiguousLength, info.Length)
	}
	session, err := s.Signed(ctx, feed.StaticManifest(info.Head), nil)
	if err != nil {
		return nil, err
	}
	c := copying{from: from, to: session.Feed(), head: info.Head}
	if err := c.run(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("copy feed %s: %w", key, err), session.Close())
	}
	return session, nil
}

// copying fills a static feed.
type copying struct {
	from, to *feed.Feed
	head     feed.Head // of from, what is copied
}

func (c *copying) run(ctx context.Context) error {
	if c.to.Info().Length == 0 {
		upgrade := feed.Request{Fork: c.head.Fork, Upgrade: &feed.UpgradeRequest{Length: c.head.Length}}
		if _, err := c.pass(ctx, upgrade); err != nil {
			return err
		}
	}
	for {
		start := c.to.Info().ContiguousLength
		if start == c.head.Length {
			return nil
		}
		var blocks []uint64
		for i := start; i < min(start+staticBatch, c.head.Length); i++ {
			blocks = append(blocks, i)
		}
		nodes, err := c.to.Plan(ctx, blocks)
		if err != nil {
			return err
		}
		reqs := make([]feed.Request, len(blocks))
		for i, index := range blocks {
			reqs[i] = feed.Request{Fork: c.head.Fork, Block: &feed.BlockRequest{Index: index, Nodes: nodes[i]}}
		}
		if done, err := c.pass(ctx, reqs...); err != nil {
			return err
		} else if done == 0 {
			return fmt.Errorf("%w: block %d", feed.ErrNotAvailable, start)
		}
	}
}

// pass has proofs made and applied, as many of the first requests as fit, and returns how many.
func (c *copying) pass(ctx context.Context, reqs ...feed.Request) (int, error) {
	proved, err := c.from.Prove(ctx, reqs)
	if err != nil {
		return 0, err
	}
	var proofs []*feed.Proof
	for i := range proved {
		if errors.Is(proved[i].Err, feed.ErrDeferred) {
			break
		}
		if proved[i].Err != nil {
			return 0, proved[i].Err
		}
		proofs = append(proofs, asStatic(proved[i].Proof))
	}
	applied, err := c.to.Apply(ctx, proofs)
	if err != nil {
		return 0, err
	}
	for _, a := range applied {
		if a.Err != nil {
			return 0, a.Err
		}
	}
	return len(proofs), nil
}

// asStatic makes of a proof one for the feed that has the same tree and no signers: nothing vouches for it but the
// prologue, whose fork is 0.
func asStatic(p *feed.Proof) *feed.Proof {
	p.Fork = 0
	if p.Upgrade != nil {
		p.Upgrade.Signature, p.Upgrade.Additional = nil, nil // Additional leads to what the feed has grown to since
	}
	return p
}
