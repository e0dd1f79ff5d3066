package corestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	datastore "github.com/ipfs/go-datastore"
	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
)

// This file alone knows the store's keys in the datastore and what lies under them.

const (
	feedPrefix  = "/store/feed"
	purgePrefix = "/store/purge"

	primaryVersion = 1
	recordVersion  = 1
)

var (
	primaryKey = datastore.RawKey("/store/primary")
	nextKey    = datastore.RawKey("/store/next")
	defaultKey = datastore.RawKey("/store/default")
)

func numberPrefix(n uint32) string { return fmt.Sprintf("/%08x", n) }

func recordKey(n uint32) datastore.Key {
	return datastore.RawKey(fmt.Sprintf(feedPrefix+"/%08x", n))
}

func discoveryKey(dk feed.DiscoveryKey) datastore.Key {
	return datastore.RawKey("/store/key/" + hex.EncodeToString(dk[:]))
}

func nameKey(n Name) datastore.Key {
	return datastore.RawKey(namesPrefix(n.Namespace) + "/" + hex.EncodeToString([]byte(n.Name)))
}

// namesPrefix is what the keys of all names in a namespace begin with, before a slash.
func namesPrefix(ns Namespace) string { return "/store/name/" + hex.EncodeToString(ns[:]) }

func purgeKey(n uint32) datastore.Key {
	return datastore.RawKey(fmt.Sprintf(purgePrefix+"/%08x", n))
}

// tombKey does not tell which feed it was to somebody who does not know its discovery key.
func tombKey(dk feed.DiscoveryKey) datastore.Key {
	h := blake2b.Sum256(dk[:])
	return datastore.RawKey("/store/tomb/" + hex.EncodeToString(h[:]))
}

func encryptionKey(dk feed.DiscoveryKey) datastore.Key {
	return datastore.RawKey("/store/encryption/" + hex.EncodeToString(dk[:]))
}

func valueKey(key string) datastore.Key {
	return datastore.RawKey("/store/value/" + hex.EncodeToString([]byte(key)))
}

// Name is a name in a namespace. Name may hold any bytes.
type Name struct {
	Namespace Namespace
	Name      string
}

// secretKind says where the key pair of a feed comes from.
type secretKind uint64

const (
	noSecret      secretKind = iota // none here: a reader's feed
	storedSecret                    // the feed's own record holds the seed
	derivedSecret                   // derived from the primary key and the name in the record
	keptSecret                      // the seed is in the record: the feed was here before its secret
)

// record is what the store knows of a feed:
//
//	uint version, uint flags (1 removed; unknown ones are kept), fixed32 key,
//	uint secret kind, then for derivedSecret: fixed32 namespace, bytes name,
//	for keptSecret: fixed32 seed
//	array of names: fixed32 namespace, bytes name
type record struct {
	flags  uint64
	key    feed.Key
	kind   secretKind
	origin Name     // derivedSecret
	seed   [32]byte // keptSecret
	names  []Name   // in the order they were given; each has an entry under /store/name
}

// flagRemoved marks a feed that has left the group and whose storage stays.
const flagRemoved = 1

func (r *record) removed() bool { return r.flags&flagRemoved != 0 }

func (r *record) append(b []byte) []byte {
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendUint(b, r.flags)
	b = append(b, r.key[:]...)
	b = compact.AppendUint(b, uint64(r.kind))
	switch r.kind {
	case derivedSecret:
		b = r.origin.append(b)
	case keptSecret:
		b = append(b, r.seed[:]...)
	}
	b = compact.AppendUint(b, uint64(len(r.names)))
	for _, n := range r.names {
		b = n.append(b)
	}
	return b
}

func (n Name) append(b []byte) []byte {
	b = append(b, n.Namespace[:]...)
	return compact.AppendBytes(b, []byte(n.Name))
}

func parseName(d *compact.Decoder) Name {
	ns := Namespace(d.Fixed32())
	return Name{Namespace: ns, Name: string(d.Bytes(MaxNameBytes))}
}

func parseRecord(b []byte) (*record, error) {
	if len(b) > maxRecordBytes {
		return nil, fmt.Errorf("%w: feed record of %d bytes", ErrCorrupt, len(b))
	}
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: feed record of version %d, made by another version of this program", ErrCorrupt, v)
	}
	r := &record{flags: d.Uint(), key: d.Fixed32(), kind: secretKind(d.Uint())}
	switch r.kind {
	case noSecret, storedSecret:
	case derivedSecret:
		r.origin = parseName(&d)
	case keptSecret:
		r.seed = d.Fixed32()
	default:
		return nil, fmt.Errorf("%w: feed record with secret of kind %d", ErrCorrupt, r.kind)
	}
	n := d.Count(33)
	if n > maxNames {
		return nil, fmt.Errorf("%w: feed record with %d names", ErrCorrupt, n)
	}
	for range n {
		r.names = append(r.names, parseName(&d))
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: feed record: %w", ErrCorrupt, err)
	}
	return r, nil
}

// index reads and writes the store's records. It does not know feeds whose deletion has begun.
type index struct {
	ds        datastore.Batching
	deletions *deletions
}

// get returns nil if nothing is stored under k.
func (x index) get(ctx context.Context, k datastore.Key) ([]byte, error) {
	b, err := x.ds.Get(ctx, k)
	if errors.Is(err, datastore.ErrNotFound) {
		return nil, nil
	}
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}

// number returns the number of a stored feed.
func (x index) number(ctx context.Context, dk feed.DiscoveryKey) (n uint32, ok bool, err error) {
	if x.deletions.hides(dk) {
		return 0, false, nil
	}
	b, err := x.get(ctx, discoveryKey(dk))
	if err != nil || b == nil {
		return 0, false, err
	}
	n, err = parseNumber(b)
	return n, err == nil, err
}

// find returns the record of a stored feed, nil if the feed is not stored.
func (x index) find(ctx context.Context, dk feed.DiscoveryKey) (uint32, *record, error) {
	n, ok, err := x.number(ctx, dk)
	if err != nil || !ok {
		return 0, nil, err
	}
	b, err := x.get(ctx, recordKey(n))
	if err != nil {
		return 0, nil, err
	}
	if b == nil {
		return 0, nil, fmt.Errorf("%w: feed %s has number %d and no record", ErrCorrupt, dk.Short(), n)
	}
	r, err := parseRecord(b)
	if err == nil && r.key.DiscoveryKey() != dk {
		err = fmt.Errorf("%w: number %d is not the number of feed %s", ErrCorrupt, n, dk.Short())
	}
	return n, r, err
}

// named returns the discovery key that a name stands for.
func (x index) named(ctx context.Context, name Name) (dk feed.DiscoveryKey, ok bool, err error) {
	b, err := x.get(ctx, nameKey(name))
	if err != nil || b == nil {
		return dk, false, err
	}
	if len(b) != len(dk) {
		return dk, false, fmt.Errorf("%w: name entry of %d bytes", ErrCorrupt, len(b))
	}
	return feed.DiscoveryKey(b), true, nil
}

// writer is a datastore or a batch of it.
type writer interface {
	Put(ctx context.Context, key datastore.Key, value []byte) error
}

// put writes everything that makes the feed known. Where the writes are not one batch their order
// matters: the entry under the discovery key comes after the record, the names after both.
func (x index) put(ctx context.Context, w writer, n uint32, r *record) error {
	if err := w.Put(ctx, recordKey(n), r.append(nil)); err != nil {
		return err
	}
	dk := r.key.DiscoveryKey()
	if err := w.Put(ctx, discoveryKey(dk), compact.AppendUint(nil, uint64(n))); err != nil {
		return err
	}
	for _, name := range r.names {
		if err := x.putName(ctx, w, name, dk); err != nil {
			return err
		}
	}
	return nil
}

func (x index) putName(ctx context.Context, w writer, name Name, dk feed.DiscoveryKey) error {
	return w.Put(ctx, nameKey(name), dk[:])
}

func parseNumber(b []byte) (uint32, error) {
	d := compact.NewDecoder(b)
	n := d.Uint()
	if d.Err() != nil || n >= 1<<32 {
		return 0, fmt.Errorf("%w: feed number %x", ErrCorrupt, b)
	}
	return uint32(n), nil
}

// numberOf reads the number out of a full record key, as a query returns it.
func numberOf(key string) (uint32, error) { return numberBelow(feedPrefix, key) }

func numberBelow(prefix, key string) (uint32, error) {
	if len(key) == len(prefix)+1+8 {
		if n, err := strconv.ParseUint(key[len(prefix)+1:], 16, 32); err == nil {
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("%w: key %q", ErrCorrupt, key)
}
