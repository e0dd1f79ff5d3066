package feed

import (
	"iter"
	"math"
)

// A generation is what was written between two rewritings of a feed, or by one branch. Its number is
// part of the keys of blocks and node pages, and is never used again. A head lists the generations
// that it is made of:
//
//	blocks       0 … 99    100 … 149   150 …
//	generation   0         3           7
//
// A truncation to length 120 makes of it 0, 3, 8 from 0, 100, 120 on: nothing is deleted or moved. A
// block belongs to the generation that counts at its index; a node page to the one that counts at the
// last block below it, so the pages that reach across the border (one on each level, at most) are
// copied into the new generation, without the nodes that are gone.
type generation struct {
	number uint32
	start  uint64
}

// generations of a head, by first block. The first starts at 0.
type generations []generation

func (g generations) valid() bool {
	if len(g) == 0 || g[0].start != 0 {
		return false
	}
	for i := 1; i < len(g); i++ {
		if g[i].start <= g[i-1].start {
			return false
		}
	}
	return true
}

// at returns the position of the generation of a block. Most blocks that are read are in the last one.
func (g generations) at(block uint64) int {
	low, high := 0, len(g)-1 // the answer is in [low, high]
	if g[high].start <= block {
		return high
	}
	for low < high {
		if mid := (low + high + 1) / 2; g[mid].start <= block {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// of returns the number of the generation of a block.
func (g generations) of(block uint64) uint32 { return g[g.at(block)].number }

// ofPage returns the generation of a node page: that of the last block below it.
func (g generations) ofPage(id pageID) uint32 {
	_, end := id.blocks()
	return g.of(end - 1)
}

// newest returns the number of the last one, which is the one that is written.
func (g generations) newest() uint32 { return g[len(g)-1].number }

// cut returns the list that is the same below start and has the generation number from there on.
func (g generations) cut(start uint64, number uint32) generations {
	n := 0
	for n < len(g) && g[n].start < start {
		n++
	}
	return append(append(make(generations, 0, n+1), g[:n]...), generation{number, start})
}

// parts yields each generation with its blocks; the last one has no end.
func (g generations) parts() iter.Seq2[uint32, Range] {
	return func(yield func(uint32, Range) bool) {
		for i := range g {
			end := uint64(math.MaxUint64)
			if i+1 < len(g) {
				end = g[i+1].start
			}
			if !yield(g[i].number, Range{Start: g[i].start, End: end}) {
				return
			}
		}
	}
}

// mergeStart returns from which block on a new generation should count that begins at block start:
// there, or earlier, so that small generations before it are copied into it. Without that each
// rewriting would make the list longer for ever. A generation is taken in if it is not much larger
// than what has been taken already: so a block is copied a logarithmic number of times, like the
// digits of a counter, and what is too large to be copied (mergeBlocks, mergeBytes) is rare by itself.
func (g generations) mergeStart(start uint64, bytes func(start uint64) uint64) uint64 {
	if len(g) <= mergeGenerations {
		return start
	}
	merged := start
	for i := len(g) - 1; i > 0; i-- {
		if g[i].start >= merged {
			continue // is cut off anyway
		}
		size := merged - g[i].start
		if size > 2*(start-merged)+mergeLeast || start-g[i].start > mergeBlocks || bytes(g[i].start) > mergeBytes {
			break
		}
		merged = g[i].start
	}
	return merged
}
