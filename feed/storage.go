package feed

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/internal/bitfield"
)

// This file is the only one of the package that knows datastore keys. All keys of a feed are its
// prefix ("/" and 8 hex digits in a corestore), "/", one letter of kind, and hex digits:
//
//	/a000000000000            auth: key, manifest, key pair, frozen       authRecord
//	/h000000000000            head: lengths, roots, signature             headRecord
//	/i000000000000            which bit pages are stored                  appendPageList
//	/mPPPPPPPPPPPP            bit page P: 32,768 bits, trailing zeros cut
//	/bGGGGGGGGIIIIIIIIIIII    block I, written in generation G
//	/nGGGGGGGGLPPPPPPPPPPP    node page P of level L, of generation G     nodePage
//	/g000000000000            next generation, what may be garbage        garbage
//	/c000000000000            evidence of a conflict                      ConflictError
//	/k000000000000            what is marked                              marksRecord
//	/r/NAME                   branch NAME                                 branchRecord
//	/u/NAME                   user data under NAME
//
// NAME is in hexadecimal. Blocks and node pages carry the number of a generation; a head record says
// from which block on which generation counts. So a truncation can leave the old records to whoever
// still reads them, and a branch writes beside the feed. generation.go and sweep.go say more.
//
// The blocks below the contiguous length of the head record are stored; bit pages say which of the
// others are. A bit page is stored only while it holds a bit past the contiguous length.
//
// What lies beyond the head is ignored when the feed is opened: bits, and nodes whose blocks are not
// all below the length. The roots are in the head record, so no crash separates them from it.

// Optional abilities of a datastore.
type (
	// AtomicBatcher says that a batch is all or nothing, and that a crash keeps a prefix of the
	// batches in the order of their commits.
	AtomicBatcher interface{ AtomicBatch() bool }
	// FreeSpacer tells how many bytes may still be stored.
	FreeSpacer interface {
		FreeSpace() (uint64, error)
	}
	// ReadOnlyStore tells why it cannot be written, such as ErrNoSpace; nil: it can.
	ReadOnlyStore interface{ ReadOnly() error }
	// RangeDeleter deletes all keys of [start, end) at once.
	RangeDeleter interface {
		DeleteRange(ctx context.Context, start, end string) error
	}
	// RangeReader calls fn with the records of [start, end) in the order of their keys, which are
	// valid during the call only, faster than one Get for each. An error of fn ends it.
	RangeReader interface {
		ReadRange(ctx context.Context, start, end string, fn func(key, value []byte) error) error
	}
	// CopyingBatch is a batch that copies what it is given. Grow announces puts, of so many bytes of
	// keys and values in all.
	CopyingBatch interface {
		datastore.Batch
		Grow(puts, bytes int)
	}
	// Compacter gives back the space of deleted keys in [start, end).
	Compacter interface {
		Compact(ctx context.Context, start, end string) error
	}
)

// storage reads and writes the records of one feed. Reading is safe for concurrent use, writing is
// for whoever has the feed's turn.
type storage struct {
	// set once
	ds     datastore.Batching
	ranges RangeReader // nil: ds is none
	prefix string
	atomic bool // the first mode of the crash rule
	noSync bool
	pages  pageCache
	// readOnly is why nothing may be written; nil: it may.
	readOnly error

	// owned by the turn
	bitPages []uint64 // sorted numbers of the stored bit pages
	unsynced bool     // something was committed and not synced yet
	garbage  garbage  // as stored, but for generations that were taken since
	leaked   bool     // a commit that failed has made garbage

	// owned by the turn: the last commit failed half way, and what is stored may be newer than the state
	unsure    bool
	undoMu    sync.Mutex
	undo      []put             // what that commit replaced, besides head, bits and node pages; also under undoMu
	undoPages []put             // which node pages
	undoBits  uint64            // its contiguous length; MaxUint64: there was no commit
	undoHeld  bitfield.Bitfield // what it would have stored
	joint     *joint            // other feeds were part of it; nil: none

	dead      []keyRange // deleted since the last compaction
	deadBytes uint64     // what that may have given back, about
	keptBytes uint64     // of what was counted before: garbage that somebody may still have
}

func newStorage(ds datastore.Batching, opts *Options) *storage {
	s := &storage{ds: ds, prefix: opts.Prefix, noSync: opts.NoSync, garbage: garbage{next: 1}, undoBits: math.MaxUint64}
	if opts.ReadOnly {
		s.readOnly = errReadOnly
		if r, ok := ds.(ReadOnlyStore); ok && r.ReadOnly() != nil {
			s.readOnly = r.ReadOnly()
		}
	}
	if a, ok := ds.(AtomicBatcher); ok {
		s.atomic = a.AtomicBatch()
	}
	s.ranges, _ = ds.(RangeReader)
	s.pages.limit = opts.CacheNodePages
	return s
}

const zeros = "000000000000"

func (s *storage) authKey() datastore.Key    { return datastore.RawKey(s.prefix + "/a" + zeros) }
func (s *storage) headKey() datastore.Key    { return datastore.RawKey(s.prefix + "/h" + zeros) }
func (s *storage) bitListKey() datastore.Key { return datastore.RawKey(s.prefix + "/i" + zeros) }
func (s *storage) conflictKey() datastore.Key {
	return datastore.RawKey(s.prefix + "/c" + zeros)
}
func (s *storage) marksKey() datastore.Key   { return datastore.RawKey(s.prefix + "/k" + zeros) }
func (s *storage) garbageKey() datastore.Key { return datastore.RawKey(s.prefix + "/g" + zeros) }

// branchKey and userKey are keys of records that are named by people.
func (s *storage) branchKey(name string) datastore.Key { return s.namedKey("/r/", name) }
func (s *storage) userKey(name string) datastore.Key   { return s.namedKey("/u/", name) }

func (s *storage) namedKey(kind, name string) datastore.Key {
	return datastore.RawKey(s.prefix + kind + hex.EncodeToString([]byte(name)))
}

func (s *storage) bitPageKey(page uint64) datastore.Key {
	b := make([]byte, 0, 64)
	b = append(append(b, s.prefix...), "/m"...)
	return datastore.RawKey(string(appendHex(b, page, 12)))
}

func (s *storage) blockKey(g uint32, index uint64) datastore.Key {
	return datastore.RawKey(string(s.appendBlockKey(make([]byte, 0, 64), g, index)))
}

// blocksEnd is past the keys of all blocks of a generation.
func (s *storage) blocksEnd(g uint32) datastore.Key {
	b := append(append(make([]byte, 0, 64), s.prefix...), "/b"...)
	return datastore.RawKey(string(append(appendHex(b, uint64(g), 8), 'g')))
}

func (s *storage) appendBlockKey(b []byte, g uint32, index uint64) []byte {
	b = append(append(b, s.prefix...), "/b"...)
	return appendHex(appendHex(b, uint64(g), 8), index, 12)
}

func (s *storage) nodePageKey(g uint32, id pageID) datastore.Key {
	b := append(append(make([]byte, 0, 64), s.prefix...), "/n"...)
	return datastore.RawKey(string(appendHex(appendHex(b, uint64(g), 8), uint64(id), 12)))
}

// appendHex appends the lowest digits of v.
func appendHex(b []byte, v uint64, digits int) []byte {
	for shift := (digits - 1) * 4; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[v>>shift&15])
	}
	return b
}

// get reads a record; nil if there is none.
func (s *storage) get(ctx context.Context, key datastore.Key) ([]byte, error) {
	b, err := s.ds.Get(ctx, key)
	if errors.Is(err, datastore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("feed: read %s: %w", key, err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// block reads a block; nil if it is not stored.
func (s *storage) block(ctx context.Context, g uint32, index uint64) ([]byte, error) {
	return s.get(ctx, s.blockKey(g, index))
}

// minRun is the number of neighbouring blocks from which on reading them as a range is cheaper: to
// begin one costs as much as two or three Gets.
const minRun = 4

// blocks reads blocks in their order until it has maxBytes of them, nil for those that are not stored.
// Neighbours in the list that are neighbours in the feed are read as one range.
func (s *storage) blocks(ctx context.Context, g generations, indexes []uint64, maxBytes int) (values [][]byte, err error) {
	values = make([][]byte, 0, len(indexes))
	for size := 0; len(indexes) > 0 && size < maxBytes; {
		start, n := len(values), 1
		if s.ranges != nil {
			n = run(g, indexes)
		}
		if n >= minRun {
			values, err = s.blockRun(ctx, g.of(indexes[0]), indexes[0], n, maxBytes-size, values)
		} else {
			var b []byte
			b, err = s.block(ctx, g.of(indexes[0]), indexes[0])
			values = append(values, b)
		}
		if err != nil {
			return nil, err
		}
		for _, b := range values[start:] {
			size += len(b)
		}
		indexes = indexes[len(values)-start:]
	}
	return values, nil
}

// run counts the neighbours of one generation at the beginning of a list.
func run(g generations, indexes []uint64) int {
	n := 1
	for n < len(indexes) && indexes[n] == indexes[0]+uint64(n) && g.of(indexes[n]) == g.of(indexes[0]) {
		n++
	}
	return n
}

// errEnough ends the reading of a range.
var errEnough = errors.New("enough")

// blockRun appends n blocks of one generation, from start on, or fewer if they have maxBytes.
func (s *storage) blockRun(ctx context.Context, g uint32, start uint64, n, maxBytes int, dst [][]byte) ([][]byte, error) {
	first := string(s.appendBlockKey(make([]byte, 0, 64), g, start))
	end := string(s.appendBlockKey(make([]byte, 0, 64), g, start+uint64(n)))
	next, wanted, size := start, []byte(first), 0
	err := s.ranges.ReadRange(ctx, first, end, func(key, value []byte) error {
		for ; !bytes.Equal(key, wanted) && next < start+uint64(n); next++ {
			dst = append(dst, nil) // not stored
			wanted = s.appendBlockKey(wanted[:0], g, next+1)
		}
		if next == start+uint64(n) {
			return errEnough
		}
		next++
		wanted = s.appendBlockKey(wanted[:0], g, next)
		dst = append(dst, append(make([]byte, 0, len(value)), value...)) // not nil if it is empty
		if size += len(value); size >= maxBytes {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
	case err != nil:
		return nil, fmt.Errorf("feed: read %s: %w", first, err)
	default:
		dst = append(dst, make([][]byte, start+uint64(n)-next)...)
	}
	return dst, nil
}

// loadPage returns a node page of a generation, without the nodes beyond the stored head of whoever
// writes this generation, from the cache or the datastore; an empty page if none is stored.
func (s *storage) loadPage(ctx context.Context, g uint32, id pageID) (*nodePage, error) {
	p, length, epoch := s.pages.get(g, id)
	if p != nil {
		return p, nil
	}
	b, err := s.get(ctx, s.nodePageKey(g, id))
	if err != nil {
		return nil, err
	}
	p = new(nodePage)
	if b != nil {
		if p, err = parseNodePage(b); err != nil {
			return nil, fmt.Errorf("page %x: %w", uint64(id), err)
		}
		p.truncate(id, length)
	}
	s.pages.offer(g, id, p, epoch)
	return p, nil
}

// exists reports whether a feed is stored. One whose Create was interrupted is not.
func (s *storage) exists(ctx context.Context) (bool, error) {
	b, err := s.get(ctx, s.authKey())
	if b != nil && err == nil && !s.atomic {
		b, err = s.get(ctx, s.headKey())
	}
	return b != nil, err
}

// load reads what a feed needs in memory. It returns nil records if nothing is stored.
func (s *storage) load(ctx context.Context) (*authRecord, *headRecord, *bitfield.Bitfield, error) {
	b, err := s.get(ctx, s.authKey())
	if b == nil || err != nil {
		return nil, nil, nil, err
	}
	auth, err := parseAuthRecord(b)
	if err != nil {
		return nil, nil, nil, err
	}
	if b, err = s.get(ctx, s.headKey()); err != nil {
		return nil, nil, nil, err
	}
	if b == nil {
		if s.atomic {
			return nil, nil, nil, fmt.Errorf("%w: no head record", ErrCorrupt)
		}
		return nil, nil, nil, nil // Create was interrupted
	}
	head, err := parseHeadRecord(b)
	if err != nil {
		return nil, nil, nil, err
	}
	if s.garbage, err = s.loadGarbage(ctx, head); err != nil {
		return nil, nil, nil, err
	}
	s.pages.publish(nil, generations(head.generations).newest(), head.length)
	bits, err := s.loadBits(ctx, head)
	return auth, head, bits, err
}

func (s *storage) loadBits(ctx context.Context, head *headRecord) (*bitfield.Bitfield, error) {
	bits := new(bitfield.Bitfield)
	b, err := s.get(ctx, s.bitListKey())
	if err != nil {
		return nil, err
	}
	if b != nil {
		if s.bitPages, err = parsePageList(b, head.length/bitfield.PageBits+1); err != nil {
			return nil, err
		}
	}
	for _, p := range s.bitPages {
		if b, err = s.get(ctx, s.bitPageKey(p)); err != nil {
			return nil, err
		}
		bits.SetPage(p, b)
	}
	if head.length < bitfield.MaxIndex {
		bits.SetRange(head.length, bitfield.MaxIndex, false)
	}
	bits.SetRange(0, head.contiguous, true)
	if !s.atomic { // the newest bits may have been stored without the newest head
		head.contiguous = min(bits.FirstUnset(0), head.length)
	}
	return bits, nil
}

// query calls fn for every record of the feed, in no particular order. value is nil if keysOnly.
func (s *storage) query(ctx context.Context, keysOnly bool, fn func(key string, value []byte, size int) error) error {
	results, err := s.ds.Query(ctx, query.Query{Prefix: s.prefix, KeysOnly: keysOnly, ReturnsSizes: true})
	if err != nil {
		return fmt.Errorf("feed: list records: %w", err)
	}
	defer func() { _ = results.Close() }()
	for r := range results.Next() {
		if r.Error != nil {
			return fmt.Errorf("feed: list records: %w", r.Error)
		}
		if err := fn(r.Key, r.Value, r.Size); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// kindOf returns the letter of kind in a key.
func (s *storage) kindOf(key string) byte {
	if tail, ok := strings.CutPrefix(key, s.prefix+"/"); ok && tail != "" {
		return tail[0]
	}
	return 0
}

// parseRecordKey takes the key of a block or node page apart: kind 'b' with a block's index, or 'n' with
// a page's name.
func (s *storage) parseRecordKey(key string) (kind byte, generation uint32, id uint64, ok bool) {
	tail, ok := strings.CutPrefix(key, s.prefix+"/")
	if !ok || len(tail) != 1+8+12 || tail[0] != 'b' && tail[0] != 'n' {
		return 0, 0, 0, false
	}
	number, err1 := strconv.ParseUint(tail[1:9], 16, 32)
	id, err2 := strconv.ParseUint(tail[9:], 16, 64)
	return tail[0], uint32(number), id, err1 == nil && err2 == nil
}

// parseNodePageKey returns the page of a key, if it is that of a node page of the generation that
// counts.
func (s *storage) parseNodePageKey(key string, g generations) (pageID, bool) {
	kind, number, id, ok := s.parseRecordKey(key)
	if !ok || kind != 'n' || g.ofPage(pageID(id)) != number {
		return 0, false
	}
	return pageID(id), true
}
