package replica

import (
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// A want of any one block is apart from a want of a page, also of the same span: Hypercore (RemoteWants in its
// lib/wants.js) remembers up to 16 of them, as long as they like and wherever they begin, and takes the remote of one
// more to want everything. The answer is one range, found without looking at the span.

// rememberAny returns the record of a want of any one block, new or old, or nil if it is one too many.
func (mem *wantMemory) rememberAny(w *wire.Want) *remoteWant {
	page := mem.findAny(merkle.Range{Start: w.Start, End: w.Start + w.Length})
	if page != nil && page.active {
		return page
	}
	active := 0
	for _, other := range mem.anys {
		if other.active {
			active++
		}
	}
	if active >= maxServedAny {
		return nil
	}
	if page == nil {
		if len(mem.anys) >= maxServedAnyMemory {
			mem.forgetAny()
		}
		page = &remoteWant{span: merkle.Range{Start: w.Start, End: w.Start + w.Length}, any: true, changed: true}
		mem.anys = append(mem.anys, page)
	}
	page.active = true
	return page
}

func (mem *wantMemory) takeBackAny(span merkle.Range) {
	if page := mem.findAny(span); page != nil {
		page.active = false
	}
}

func (mem *wantMemory) findAny(span merkle.Range) *remoteWant {
	for _, page := range mem.anys {
		if page.span == span {
			return page
		}
	}
	return nil
}

// forgetAny makes room by forgetting the oldest that is not wanted any more.
func (mem *wantMemory) forgetAny() {
	if i := slices.IndexFunc(mem.anys, func(page *remoteWant) bool { return !page.active }); i >= 0 {
		mem.due = without(mem.due, mem.anys[i])
		mem.anys = slices.Delete(mem.anys, i, i+1)
	}
}
