package feed

import (
	"context"
	"errors"
	"slices"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

// world is all that can be seen of a feed.
type world struct {
	Head   Head
	Blocks map[uint64]string // that are stored
	Branch map[uint64]string // nil: there is none
	User   string
	Frozen bool
}

func look(ctx context.Context, f *Feed) (w world, err error) {
	if ds, ok := f.storage.ds.(*brittle.Store); ok {
		ds.Calm(true)
		defer ds.Calm(false)
	}
	s, err := f.Session(SessionOptions{Local: true})
	if err != nil {
		return w, err
	}
	defer s.Close()
	w.Head, w.Frozen = f.Info().Head, f.Info().Frozen
	if w.Blocks, err = lookAt(ctx, s); err != nil {
		return w, err
	}
	if slices.Contains(f.Branches(), "b") {
		b, err := s.Branch(ctx, "b", BranchOptions{})
		if err != nil {
			return w, err
		}
		defer b.Close()
		if w.Branch, err = lookAt(ctx, b); err != nil {
			return w, err
		}
	}
	user, err := s.UserData(ctx, "k")
	w.User = string(user)
	return w, err
}

func lookAt(ctx context.Context, s *Session) (map[uint64]string, error) {
	blocks := map[uint64]string{}
	for i, length := uint64(0), s.Info().Length; i < length; i++ {
		if s.line == nil && i%64 == 0 { // most of a wide feed is not there
			if next, ok := s.feed.nextRange(Range{Start: i, End: i + 64}); !ok || next.Start >= i+64 {
				i += 63
				continue
			}
		}
		if !s.Has(i) {
			continue
		}
		b, err := s.GetLocal(ctx, i)
		switch {
		case errors.Is(err, ErrNotAvailable): // lost in a crash
		case err != nil:
			return nil, err
		default:
			blocks[i] = string(b)
		}
	}
	return blocks, nil
}

// between reports whether w has a head of one of the worlds, and of each block what one of them has. pieces
// are what the blocks may be made of: each as in some of the worlds, or not there.
func (w world) between(worlds []world) bool {
	head := slices.ContainsFunc(worlds, func(o world) bool { return o.Head == w.Head && o.User == w.User })
	for i, b := range w.Blocks {
		head = head && slices.ContainsFunc(worlds, func(o world) bool { c, ok := o.Blocks[i]; return ok && b == c })
	}
	return head
}
