package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// ErrNoSpace: the disk is full, or the reserve is touched. It is feed.ErrNoSpace.
var ErrNoSpace = feed.ErrNoSpace

// Defaults of Options.
const (
	// DefaultMemTableBytes makes appends of small blocks two and a half times as fast as pebble's
	// own 4 MiB (measured: 82,000 against 208,000 blocks of 1 KiB per second).
	DefaultMemTableBytes = 64 << 20

	// DefaultCacheBytes holds the node pages and indexes of some thousand feeds in use.
	DefaultCacheBytes = 128 << 20

	// DefaultReserve is enough for the flush of all memtables, and the rest of it for one compaction.
	DefaultReserve = 256 << 20
)

// memTables is how many memtables there may be: one in use, and the others being flushed or waiting for it. With two,
// whoever downloads waits whenever the disk is slower than the network for a moment: a tenth of the time in a download
// of blocks of 64 KiB. pebble keeps the memory of one more for later.
const memTables = 3

// Options of Open. The zero value is what programs want; small filesystems need smaller figures.
type Options struct {
	Reserve       uint64 // bytes of the filesystem that appends and downloads leave; at least three memtables
	MemTableBytes uint64 // pebble's write buffer, in memory and in its log; up to four are held
	CacheBytes    int64  // pebble's cache of what was read

	// ReadOnly opens a store that exists and changes nothing in its database. The lock is taken.
	ReadOnly bool

	// Logger is silent if nil.
	Logger *slog.Logger

	// OnFatal is called, once, when pebble cannot go on: its log or manifest could not be written.
	// err wraps ErrNoSpace if the disk is full. The callback must end the process and must not use
	// the store; if it returns, the process ends with status 1. nil: one line on stderr, and status
	// 30 for a full disk, else 1.
	OnFatal func(err error)
}

func (o Options) withDefaults() Options {
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	o.Reserve = max(o.Reserve, memTables*o.MemTableBytes)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Disk is an open store. All methods are safe for concurrent use.
type Disk struct {
	// Set in Open.
	dir   string
	lock  *lock
	space *space
	ds    *Datastore
	cache *pebble.Cache
	group *lifecycle.Group

	// Under mu, which Close holds to its end so that every call of it waits.
	mu       sync.Mutex
	closed   bool
	closeErr error
}

// Open opens the store in dir, or makes it (not with ReadOnly), and holds its lock until Close. dir
// is made with mode 0700.
//
// The error is a *LockedError if another process holds the store; wraps ErrForeign if dir is not a
// store of this program (nothing is changed in it), ErrNoSpace if the disk is too full even for
// reading, or fs.ErrNotExist with ReadOnly. Open does not wait for space.
func Open(dir string, opts Options) (*Disk, error) {
	opts = opts.withDefaults()
	d, err := open(dir, opts)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrNoSpace) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return d, nil
}

func open(dir string, opts Options) (_ *Disk, err error) {
	if err := prepare(dir, opts.ReadOnly, opts.Reserve); err != nil {
		return nil, err
	}
	l, err := acquireLock(dir)
	if err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, lock: l, space: newSpace(dir, opts), group: lifecycle.NewGroup()}
	defer func() {
		if err != nil {
			d.group.Close()
			err = errors.Join(err, d.lock.release())
		}
	}()
	// What was true before the lock was ours may have changed.
	if err := claim(dir, opts.ReadOnly); err != nil {
		return nil, err
	}
	readOnly, err := d.space.prepare(filepath.Join(dir, dbName), opts.ReadOnly)
	if err != nil {
		return nil, err
	}
	if readOnly && !opts.ReadOnly {
		opts.Logger.Error("the disk is full: the store is read-only", "dir", dir)
	}
	return d, d.openDatabase(opts, readOnly)
}

// openDatabase opens pebble and lays the datastore over it.
func (d *Disk) openDatabase(opts Options, readOnly bool) error {
	// Pebble takes the memtables out of the cache.
	d.cache = pebble.NewCache(opts.CacheBytes + memTables*int64(opts.MemTableBytes))
	logger := newLogger(opts.Logger, opts.OnFatal)
	po := &pebble.Options{
		Cache:              d.cache,
		FS:                 newWritebackFS(vfs.OnDiskFull(vfs.Default, d.space.release), d.group, writeBack),
		FormatMajorVersion: pebble.FormatColumnarBlocks,
		Logger:             logger,
		MemTableSize:       opts.MemTableBytes,
		ReadOnly:           readOnly,

		MemTableStopWritesThreshold: memTables,
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	path := filepath.Join(d.dir, dbName)
	ds, err := pebbleds.NewDatastore(path, pebbleds.WithPebbleOpts(po))
	if err != nil {
		d.cache.Unref()
		return err
	}
	d.ds = &Datastore{Datastore: ds, space: d.space}
	switch {
	case opts.ReadOnly:
		d.ds.readOnly = ErrReadOnly
	case readOnly:
		d.ds.readOnly = errFull
	}
	d.space.watch(readOnly)
	return nil
}

// Datastore returns the open datastore. It must not be used after Close.
func (d *Disk) Datastore() *Datastore { return d.ds }

// ReadOnly reports whether the store was opened read-only: because the caller wanted it, or because
// the disk is full.
func (d *Disk) ReadOnly() bool { return d.ds.readOnly != nil }

// FreeSpace returns how many bytes may be stored before the reserve is touched, 0 if it is.
func (d *Disk) FreeSpace() (uint64, error) { return d.ds.FreeSpace() }

// UsedSpace returns how many bytes the database's files take.
func (d *Disk) UsedSpace() uint64 { return d.ds.DB.Metrics().DiskSpaceUsage() }

// Memory returns how many bytes of memory the cache holds, and how many the write buffers, also those that are kept for later.
// The cache may take what the write buffers leave of their own.
func (d *Disk) Memory() (cache, tables uint64) {
	m := d.ds.DB.Metrics()
	return uint64(m.BlockCache.Size), m.MemTable.Size + m.MemTable.ZombieSize
}

// Dir returns the directory that was opened.
func (d *Disk) Dir() string { return d.dir }

// SetSocket writes into the lock file where the holder of the store can be talked to.
func (d *Disk) SetSocket(path string) error { return d.lock.setSocket(path) }

// closeFlushTimeout bounds the wait for the flush of a memtable when the store closes. What is not
// flushed is in the log.
const closeFlushTimeout = 10 * time.Second

// Close closes the database and gives the lock back. Whoever uses the datastore must have ended. It
// may be called again.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.closeErr
	}
	d.closed = true
	err := d.closeDatabase()
	d.group.Close()
	d.closeErr = errors.Join(err, d.lock.release())
	return d.closeErr
}

func (d *Disk) closeDatabase() error {
	defer d.cache.Unref()
	if d.ds.readOnly != nil {
		return d.ds.Datastore.DB.Close()
	}
	// A flush that finds no space never ends, and go-ds-pebble's Close waits for one.
	if done, err := d.ds.Datastore.DB.AsyncFlush(); err == nil {
		timer := time.NewTimer(closeFlushTimeout)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			return d.ds.Datastore.DB.Close()
		case <-d.space.full:
			return d.ds.Datastore.DB.Close()
		}
	}
	return d.ds.Datastore.Close()
}

// Exists reports whether dir holds a store of this program.
func Exists(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, formatName))
	return err == nil && string(text) == formatText
}
