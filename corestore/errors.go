package corestore

import (
	"errors"
	"fmt"
)

// Errors to test for with errors.Is.
var (
	// ErrUnknownFeed: no such feed is stored here.
	ErrUnknownFeed = errors.New("corestore: unknown feed")
	// ErrRemoved: the feed is stored and has left the group; Keyed and Named bring it back. It wraps
	// ErrUnknownFeed.
	ErrRemoved = fmt.Errorf("%w: it was removed", ErrUnknownFeed)
	// ErrDefaultKey: the default feed that was given is not the one that this store has.
	ErrDefaultKey = errors.New("corestore: the store has another default feed")
	// ErrClosed: the store, or the handle on it, is closed.
	ErrClosed = errors.New("corestore: closed")
	// ErrReadOnly: the call would write, and the store was opened read-only. What the datastore says of the reason, if it
	// is a feed.ReadOnlyStore, is wrapped along with it.
	ErrReadOnly = errors.New("corestore: read-only")
	// ErrPrimaryKey: the primary key that was given is not the one of this store.
	ErrPrimaryKey = errors.New("corestore: another primary key is stored")
	// ErrName: the name is empty or longer than MaxNameBytes.
	ErrName = errors.New("corestore: bad name")
	// ErrNameTaken: the name belongs to another feed.
	ErrNameTaken = errors.New("corestore: name is taken")
	// ErrCorrupt: the store's own records contradict each other or cannot be read.
	ErrCorrupt = errors.New("corestore: index is corrupt")
)
