// Package disk is the embedded store: pebble, through go-ds-pebble, in a directory that one process
// at a time holds.
//
//	DIR/FORMAT    "p2pcore store 1\n"; a directory of anything else is never touched
//	DIR/LOCK      locked (flock) by the holder; says who that is, as JSON
//	DIR/ballast   space kept for a late "disk full", see below
//	DIR/db/       pebble's
//
// Other files in DIR belong to the program that opens the store.
//
// # Full disk
//
// Pebble ends the process when its log cannot be written, and a database in that state cannot be
// opened for writing before there is space again. So the store keeps a reserve: when less is left on
// the filesystem, [Datastore.FreeSpace] returns 0 and feeds refuse appends and downloads with
// feed.ErrNoSpace. When less than half of it is left the datastore itself refuses whatever makes it
// grow; deleting, reading and serving go on. If another program eats the rest, the ballast file is
// removed at the first failing write, which is then repeated. A store on a disk without room for
// replaying its log opens read-only.
package disk
