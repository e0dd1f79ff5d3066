package feed

import (
	"fmt"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/flattree"
)

// recordVersion begins the head and auth records.
const recordVersion = 1

// headRecord is what is stored of a head: enough to open the feed without reading any node.
//
//	uint 1, fork, length, contiguous length
//	uint n, n times (uint generation, uint first block)
//	for each root of length: uint size, 32 byte hash
//	buffer signature
type headRecord struct {
	fork, length, contiguous uint64
	generations              generations
	roots                    []Node
	signature                []byte
}

func emptyHead() *headRecord { return &headRecord{generations: generations{{}}} }

func (h *headRecord) append(b []byte) []byte {
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendUint(b, h.fork)
	b = compact.AppendUint(b, h.length)
	b = compact.AppendUint(b, h.contiguous)
	b = compact.AppendUint(b, uint64(len(h.generations)))
	for _, g := range h.generations {
		b = compact.AppendUint(b, uint64(g.number))
		b = compact.AppendUint(b, g.start)
	}
	for i := range h.roots {
		b = compact.AppendUint(b, h.roots[i].Size)
		b = append(b, h.roots[i].Hash[:]...)
	}
	return compact.AppendBytes(b, h.signature)
}

func parseHeadRecord(b []byte) (*headRecord, error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: head record of version %d", ErrCorrupt, v)
	}
	h := &headRecord{fork: d.Uint(), length: d.Uint(), contiguous: d.Uint()}
	h.generations = make(generations, d.Count(2))
	for i := range h.generations {
		h.generations[i] = generation{uint32(d.Uint()), d.Uint()}
	}
	if d.Err() == nil && h.length <= maxLength {
		for _, at := range flattree.AppendRoots(nil, h.length) {
			h.roots = append(h.roots, Node{Index: at, Size: d.Uint(), Hash: d.Fixed32()})
		}
	}
	h.signature = append([]byte(nil), d.Bytes(MaxSignatureBytes)...)
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: head record: %w", ErrCorrupt, err)
	}
	if h.length > maxLength || h.contiguous > h.length || !h.generations.valid() {
		return nil, fmt.Errorf("%w: head record out of bounds", ErrCorrupt)
	}
	return h, nil
}

// authRecord is what is stored of a feed's identity.
//
//	uint 1, uint flags (1 frozen, 2 manifest, 4 seed, 8 recovering), 32 byte key
//	buffer manifest, 32 byte seed, as flagged
type authRecord struct {
	key        Key
	frozen     bool
	recovering bool      // appends wait until peers have confirmed the length
	manifest   *Manifest // nil: not known yet
	pair       KeyPair   // zero: none
}

const (
	authFrozen = 1 << iota
	authManifest
	authSeed
	authRecovering
)

func (a *authRecord) append(b []byte) []byte {
	flags := uint64(0)
	if a.frozen {
		flags |= authFrozen
	}
	if a.recovering {
		flags |= authRecovering
	}
	if a.manifest != nil {
		flags |= authManifest
	}
	if !a.pair.IsZero() {
		flags |= authSeed
	}
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendUint(b, flags)
	b = append(b, a.key[:]...)
	if a.manifest != nil {
		b = compact.AppendBytes(b, a.manifest.Append(nil))
	}
	if !a.pair.IsZero() {
		seed := a.pair.Seed()
		b = append(b, seed[:]...)
	}
	return b
}

func parseAuthRecord(b []byte) (*authRecord, error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: auth record of version %d", ErrCorrupt, v)
	}
	flags := d.Uint()
	a := &authRecord{frozen: flags&authFrozen != 0, recovering: flags&authRecovering != 0, key: d.Fixed32()}
	if flags&authManifest != 0 {
		m, err := ParseManifest(d.Bytes(MaxManifestBytes))
		if err != nil {
			return nil, fmt.Errorf("%w: auth record: %w", ErrCorrupt, err)
		}
		a.manifest = m
	}
	if flags&authSeed != 0 {
		a.pair = KeyPairFromSeed(d.Fixed32())
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: auth record: %w", ErrCorrupt, err)
	}
	return a, nil
}

// pageRun is a run of n pages from first on.
type pageRun struct{ first, n uint64 }

// appendPageList appends the stored form of a sorted list of page numbers: runs, each as its
// distance from the end of the one before and its number of pages.
func appendPageList(b []byte, pages []uint64) []byte {
	var runs []pageRun
	for _, p := range pages {
		if n := len(runs); n > 0 && runs[n-1].first+runs[n-1].n == p {
			runs[n-1].n++
		} else {
			runs = append(runs, pageRun{p, 1})
		}
	}
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendUint(b, uint64(len(runs)))
	end := uint64(0)
	for _, r := range runs {
		b = compact.AppendUint(b, r.first-end)
		b = compact.AppendUint(b, r.n)
		end = r.first + r.n
	}
	return b
}

// parsePageList reads the stored form, of pages below limit.
func parsePageList(b []byte, limit uint64) ([]uint64, error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: page list of version %d", ErrCorrupt, v)
	}
	var pages []uint64
	end := uint64(0)
	for range d.Count(2) {
		first := end + d.Uint()
		end = first + d.Uint()
		for p := first; p < min(end, limit); p++ {
			pages = append(pages, p)
		}
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: page list: %w", ErrCorrupt, err)
	}
	return pages, nil
}
