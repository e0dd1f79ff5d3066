package feed

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// garbage is what is stored of generations: which number is the next one, and where records may lie
// that nobody can read any more. That something is listed never means that it may be deleted: sweep
// looks at who reads what.
//
//	uint 1, uint next generation
//	uint n, n times uint generation
//	uint n, n times (uint first block, uint number of blocks): blocks that were cleared
type garbage struct {
	next     uint32
	suspects []uint32 // generations, sorted
	cleared  []Range  // sorted, at most maxCleared
}

func (g *garbage) append(b []byte) []byte {
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendUint(b, uint64(g.next))
	b = compact.AppendUint(b, uint64(len(g.suspects)))
	for _, n := range g.suspects {
		b = compact.AppendUint(b, uint64(n))
	}
	b = compact.AppendUint(b, uint64(len(g.cleared)))
	for _, r := range g.cleared {
		b = compact.AppendUint(b, r.Start)
		b = compact.AppendUint(b, r.End-r.Start)
	}
	return b
}

func parseGarbage(b []byte) (g garbage, err error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return g, fmt.Errorf("%w: garbage record of version %d", ErrCorrupt, v)
	}
	next, fits := d.Uint(), true
	g.next = uint32(next)
	g.suspects = make([]uint32, d.Count(1))
	for i := range g.suspects {
		n := d.Uint()
		g.suspects[i] = uint32(n)
		fits = fits && n < next && (i == 0 || g.suspects[i-1] < g.suspects[i])
	}
	g.cleared = make([]Range, d.Count(2))
	at := uint64(0)
	for i := range g.cleared {
		r := Range{Start: d.Uint()}
		r.End = r.Start + d.Uint()
		g.cleared[i] = r
		fits = fits && at <= r.Start && r.Start < r.End && r.End <= maxLength
		at = r.End
	}
	if err := d.Err(); err != nil {
		return g, fmt.Errorf("%w: garbage record: %w", ErrCorrupt, err)
	}
	if !fits || next == 0 || next > math.MaxUint32 {
		return g, fmt.Errorf("%w: garbage record out of bounds", ErrCorrupt)
	}
	return g, nil
}

// loadGarbage reads the record. Without one only the generations of the head have ever been written.
func (s *storage) loadGarbage(ctx context.Context, head *headRecord) (garbage, error) {
	b, err := s.get(ctx, s.garbageKey())
	if err != nil {
		return garbage{}, err
	}
	if b == nil {
		return garbage{next: head.generations.newest() + 1}, nil
	}
	return parseGarbage(b)
}

// clone returns a copy to be changed.
func (g *garbage) clone() *garbage {
	return &garbage{next: g.next, suspects: slices.Clone(g.suspects), cleared: slices.Clone(g.cleared)}
}

// suspect adds generations.
func (g *garbage) suspect(numbers ...uint32) {
	for _, n := range numbers {
		if at, found := slices.BinarySearch(g.suspects, n); !found {
			g.suspects = slices.Insert(g.suspects, at, n)
		}
	}
}

// clear adds a range of blocks. Past maxCleared neighbours are joined across their gap, which sweep can stand.
func (g *garbage) clear(r Range) {
	g.cleared = mergeRanges(g.cleared, []Range{r}, maxCleared)
}

// takeGeneration returns a number that was never used. What is written under it before something
// refers to it must be found by a sweep after a crash; where a batch is all or nothing there is no
// such thing.
func (s *storage) takeGeneration(ctx context.Context) (uint32, error) {
	if s.garbage.next == 0 {
		return 0, fmt.Errorf("%w: all generations are used up", ErrCorrupt)
	}
	n := s.garbage.next
	s.garbage.next++
	if s.atomic {
		return n, nil
	}
	s.garbage.suspect(n)
	if err := s.ds.Put(ctx, s.garbageKey(), s.garbage.append(nil)); err != nil {
		return 0, fmt.Errorf("feed: store: %w", err)
	}
	if err := s.sync(ctx, true); err != nil {
		return 0, fmt.Errorf("feed: store: %w", err)
	}
	return n, nil
}
