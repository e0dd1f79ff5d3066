package feed

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// act is one operation of a program.
type act struct {
	name string
	do   func(ctx context.Context, f *Feed) error
	lazy bool // not durable: a crash later may take it back in part
	// bits of several pages change: where batches are not atomic, a crash meanwhile may do it in part
	wide bool
}

func withSession(do func(ctx context.Context, s *Session) error) func(context.Context, *Feed) error {
	return func(ctx context.Context, f *Feed) error {
		s, err := f.Session(SessionOptions{})
		if err != nil {
			return err
		}
		defer s.Close()
		return do(ctx, s)
	}
}

func appendAct(n, from int) act {
	return act{name: fmt.Sprintf("append %d", n), do: withSession(func(ctx context.Context, s *Session) error {
		var blocks [][]byte
		for i := range n {
			blocks = append(blocks, fmt.Appendf(nil, "block %d", from+i))
		}
		_, err := s.Append(ctx, blocks...)
		return err
	})}
}

func truncateAct(n uint64) act {
	return act{name: fmt.Sprintf("truncate to %d", n), do: withSession(func(ctx context.Context, s *Session) error {
		_, err := s.Truncate(ctx, n, TruncateOptions{})
		return err
	})}
}

func clearAct(r Range) act {
	return act{name: fmt.Sprintf("clear %d to %d", r.Start, r.End), do: withSession(func(ctx context.Context, s *Session) error {
		_, err := s.Clear(ctx, r)
		return err
	})}
}

func onBranch(name string, do func(ctx context.Context, s, b *Session) error) act {
	return act{name: name, do: withSession(func(ctx context.Context, s *Session) error {
		b, err := s.Branch(ctx, "b", BranchOptions{})
		if err != nil {
			return err
		}
		defer b.Close()
		return do(ctx, s, b)
	})}
}

func tryUpgrade(ctx context.Context, w, r *Feed) error {
	return tryPass(ctx, w, r, upgradeRequest(w, r))
}

func tryPass(ctx context.Context, w, r *Feed, req Request) error {
	proved, err := w.Prove(ctx, []Request{req})
	if err == nil {
		err = proved[0].Err
	}
	if err != nil {
		return err
	}
	applied, err := r.Apply(ctx, []*Proof{proved[0].Proof})
	if err != nil {
		return err
	}
	return applied[0].Err
}

func tryFetch(ctx context.Context, w, r *Feed, blocks ...uint64) error {
	for _, i := range blocks {
		if r.Has(Range{Start: i, End: i + 1}) {
			continue
		}
		nodes, err := r.Plan(ctx, []uint64{i})
		if err != nil {
			return err
		}
		if err := tryPass(ctx, w, r, Request{Fork: w.Info().Fork, Block: &BlockRequest{Index: i, Nodes: nodes[0]}}); err != nil {
			return err
		}
	}
	return nil
}

func tryFollow(ctx context.Context, w, r *Feed) error {
	proved, err := w.Prove(ctx, []Request{{Fork: w.Info().Fork, Upgrade: &UpgradeRequest{Length: w.Info().Length}, Manifest: true}})
	if err == nil {
		err = proved[0].Err
	}
	if err != nil {
		return err
	}
	g, err := r.Reorg(ctx, proved[0].Proof)
	if err != nil {
		return err
	}
	for {
		want, more := g.Want()
		if !more {
			return g.Apply(ctx)
		}
		proved, err := w.Prove(ctx, []Request{{Fork: w.Info().Fork, Hash: &HashRequest{Index: flattree.Leaf(want.Start), Nodes: want.Nodes}}})
		if err == nil {
			err = proved[0].Err
		}
		if err == nil {
			err = g.Verify(ctx, proved[0].Proof)
		}
		if err != nil {
			return err
		}
	}
}

func upgradeAct(w *Feed) act {
	return act{name: "upgrade", lazy: true, do: func(ctx context.Context, f *Feed) error {
		if f.Info().Length == w.Info().Length {
			return nil
		}
		return tryUpgrade(ctx, w, f)
	}}
}

func fetchAct(w *Feed, blocks ...uint64) act {
	return act{name: fmt.Sprintf("fetch %d", blocks), lazy: true, do: func(ctx context.Context, f *Feed) error { return tryFetch(ctx, w, f, blocks...) }}
}

func followAct(w *Feed) act {
	return act{name: "follow", do: func(ctx context.Context, f *Feed) error {
		if f.Info().Fork == w.Info().Fork {
			return nil
		}
		return tryFollow(ctx, w, f)
	}}
}

// goOnWith follows a writer from wherever the reader is.
func goOnWith(w *Feed, blocks ...uint64) act {
	return act{name: "go on", do: func(ctx context.Context, f *Feed) error {
		for _, a := range []act{followAct(w), upgradeAct(w), fetchAct(w, blocks...)} {
			if err := a.do(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
		return nil
	}}
}
