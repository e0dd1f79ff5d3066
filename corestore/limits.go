package corestore

import "time"

// Bounds and defaults, each with its reason.
const (
	// MaxNameBytes bounds a name. Corestore 7 has no bound; a name is part of a datastore key here,
	// twice as long in hexadecimal, and keys of a few kilobytes slow every datastore down.
	MaxNameBytes = 1024

	// DefaultIdleTimeout is how long a feed stays open that nobody uses. Corestore 7 closes after 4
	// to 6 seconds; less makes a reader that opens feeds one after the other open them twice.
	DefaultIdleTimeout = 5 * time.Second

	// maxNames bounds the names of one feed, so that its record stays small enough to be read for
	// every feed of a list.
	maxNames = 64

	// numberBlock is how many feed numbers are set aside with one write. Numbers left over when the
	// store closes are lost: 2^32 / 64 openings that create a feed are enough.
	numberBlock = 64

	// maxRecordBytes bounds a feed record when it is read: maxNames names of full length and 1 KiB.
	maxRecordBytes = maxNames*(MaxNameBytes+64) + 1024
)
