package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	datastore "github.com/ipfs/go-datastore"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/p2pcore/p2pcore/feed"
)

// maxBatchBytes bounds one batch; pebble panics past 4 GiB.
const maxBatchBytes = 1 << 30

var (
	// ErrReadOnly: the call would write, and the store was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("disk: opened read-only")

	errFull      = fmt.Errorf("%w: the store is open read-only", ErrNoSpace)
	errBatchDone = errors.New("disk: batch is committed already")
	errBatchSize = errors.New("disk: batch is larger than 1 GiB")
)

// Datastore is go-ds-pebble with what feeds like to have more: see the methods. Batches are all or
// nothing, and a crash keeps a prefix of them in the order of their commits. Nothing is durable
// before Sync, which costs one fsync of the log, shared by all who call it at the same time.
//
// What makes the database grow fails with ErrNoSpace when the reserve is half used up; batches of less than
// 1/256 of it, when an eighth is left. Deleting works always. In a store that is open read-only both fail:
// with ErrNoSpace if the full disk is why, with ErrReadOnly if the caller wanted it so.
type Datastore struct {
	*pebbleds.Datastore
	space    *space
	readOnly error // what writing fails with; nil: it does not
}

var (
	_ datastore.Batching            = (*Datastore)(nil)
	_ datastore.PersistentDatastore = (*Datastore)(nil)
	_ feed.AtomicBatcher            = (*Datastore)(nil)
	_ feed.RangeReader              = (*Datastore)(nil)
	_ feed.ReadOnlyStore            = (*Datastore)(nil)
	_ feed.CopyingBatch             = (*batch)(nil)
)

// AtomicBatch reports that a batch is all or nothing.
func (d *Datastore) AtomicBatch() bool { return true }

// ReadOnly returns what writing fails with: ErrNoSpace if the disk is full, ErrReadOnly if the caller wanted it so; nil
// if the store can be written.
func (d *Datastore) ReadOnly() error { return d.readOnly }

// FreeSpace returns how many bytes may be stored before the reserve is touched; 0 if it is, or if the
// store is open read-only. It is cheap: the filesystem is not asked each time.
func (d *Datastore) FreeSpace() (uint64, error) {
	if d.readOnly != nil {
		return 0, nil
	}
	return d.space.above()
}

// DeleteRange removes all keys in [start, end), in byte order, with one record.
func (d *Datastore) DeleteRange(_ context.Context, start, end string) error {
	if d.readOnly != nil {
		return d.readOnly
	}
	if start >= end {
		return nil
	}
	return d.DB.DeleteRange([]byte(start), []byte(end), pebble.NoSync)
}

// Compact gives back the space of what was deleted in [start, end). It blocks for as long as that
// takes.
func (d *Datastore) Compact(ctx context.Context, start, end string) error {
	if d.readOnly != nil {
		return d.readOnly
	}
	if start >= end {
		return nil
	}
	return d.DB.Compact(ctx, []byte(start), []byte(end), false)
}

// ReadRange calls fn with each key in [start, end) that is stored and its value, in byte order. Both
// are valid during the call only; an error of fn ends the reading and is returned. From the second
// record on it costs a fraction of Get.
func (d *Datastore) ReadRange(ctx context.Context, start, end string, fn func(key, value []byte) error) error {
	it, err := d.DB.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte(start), UpperBound: []byte(end)})
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			err = fn(it.Key(), value)
		}
	}
	return cmp.Or(err, it.Close())
}

// Put stores one value. Sync makes it durable.
func (d *Datastore) Put(ctx context.Context, key datastore.Key, value []byte) error {
	if err := d.allow(len(key.Bytes()) + len(value)); err != nil {
		return err
	}
	return d.Datastore.Put(ctx, key, value)
}

// Delete removes one key.
func (d *Datastore) Delete(ctx context.Context, key datastore.Key) error {
	if d.readOnly != nil {
		return d.readOnly
	}
	return d.Datastore.Delete(ctx, key)
}

// Sync makes everything written so far durable, whatever its prefix: it writes an empty record to the
// log and waits for the log's fsync.
func (d *Datastore) Sync(ctx context.Context, prefix datastore.Key) error {
	if d.readOnly != nil {
		return nil
	}
	return d.Datastore.Sync(ctx, prefix)
}

// Batch returns an empty batch.
func (d *Datastore) Batch(context.Context) (datastore.Batch, error) {
	if d.readOnly != nil {
		return nil, d.readOnly
	}
	return &batch{ds: d}, nil
}

func (d *Datastore) allow(n int) error {
	if d.readOnly != nil {
		return d.readOnly
	}
	return d.space.allow(uint64(n))
}

// maxSpareBatch is how large a batch's memory may be to be kept for another batch.
const maxSpareBatch = 8 << 20

// batch is a batch of a Datastore. It copies what it is given. It is not safe for concurrent use.
type batch struct {
	ds   *Datastore
	b    *pebble.Batch // nil until the first record
	done bool          // committed
	size int           // bytes that were announced by Grow
	puts int           // bytes
}

// Grow announces puts, of so many bytes of keys and values in all, so that the batch takes its memory at
// once. It has no effect after the first of them.
func (b *batch) Grow(puts, bytes int) {
	const header, perPut = 16, 16 // pebble's, at most
	b.size = min(header+puts*perPut+bytes, maxBatchBytes)
}

// records returns pebble's batch, or nil if it has been committed.
func (b *batch) records() *pebble.Batch {
	if b.b == nil && !b.done {
		b.b = b.ds.DB.NewBatchWithSize(b.size, pebble.WithMaxRetainedSizeBytes(maxSpareBatch))
	}
	return b.b
}

func (b *batch) Put(_ context.Context, key datastore.Key, value []byte) error {
	records := b.records()
	if records == nil {
		return errBatchDone
	}
	k := key.Bytes()
	if records.Len()+len(k)+len(value) > maxBatchBytes {
		return errBatchSize
	}
	b.puts += len(k) + len(value)
	return records.Set(k, value, nil)
}

func (b *batch) Delete(_ context.Context, key datastore.Key) error {
	records := b.records()
	if records == nil {
		return errBatchDone
	}
	return records.Delete(key.Bytes(), nil)
}

// Commit applies the batch, or leaves it as it is if there is no space for it.
func (b *batch) Commit(context.Context) error {
	records := b.records()
	if records == nil {
		return errBatchDone
	}
	if b.puts > 0 {
		if err := b.ds.allow(b.puts); err != nil {
			return err
		}
	}
	if err := records.Commit(pebble.NoSync); err != nil {
		return err
	}
	b.b, b.done = nil, true
	return records.Close() // recycles its memory
}
