package interop

import (
	"fmt"
	"strings"

	"github.com/p2pcore/p2pcore/feed"
)

// network is how two parties reach each other.
type network string

const (
	tcp    network = "TCP"    // JavaScript's Noise stream over raw TCP
	libp2p network = "libp2p" // with JavaScript its Noise stream within, else our plain one
)

// party is one machine with a store, of either implementation. What goes wrong in a call fails the scenario.
type party interface {
	// open opens a feed, or makes it.
	open(o opening) log
	// listen starts to listen, if it does not yet, and returns the address.
	listen(n network) string
	// dial begins replication with whoever listens at an address. It does not wait for the conversation.
	dial(n network, address string)
	// offline ends all streams and stops listening. The feeds stay open.
	offline()
	// stop ends the party for good, as at the end of the scenario.
	stop()
	// expect says which problems are meant to happen here.
	expect(what ...string)
}

// opening says which feed; without anything, one with a fresh key.
type opening struct {
	name          string
	namespaces    []string // of the name, each within the one before
	key           *feed.Key
	pair          *feed.KeyPair
	manifest      *feed.Manifest
	encryptionKey *feed.EncryptionKey
}

// keyed is the feed of somebody else.
func keyed(key feed.Key) opening { return opening{key: &key} }

// log is an open feed of a party.
type log interface {
	key() feed.Key
	info() info
	// reach waits for a state and returns the one it is.
	reach(s state) info
	append(blocks ...string) info
	appendSigned(signature []byte, blocks ...string) info
	// prologue stores the blocks that the manifest names.
	prologue(blocks ...string)
	// manifest waits until it is known.
	manifest() string
	// fill appends blocks [start, end) of content, check tells whether they are what is stored.
	fill(label string, start, end, size int) info
	check(label string, start, end, size int)
	truncate(length int) info
	clear(start, end int)
	get(index int) string
	// raw is get without decryption.
	raw(index int) []byte
	has(start, end int) bool
	update() bool
	download(start, end int)
	// follow downloads all that there is and that comes, in the background.
	follow()
	seek(offset int) (index, rest int)
	bytes(offset, length int) []byte
	// tail reads count blocks from start as they come.
	tail(start, count int) []string
	treeHash(length int) feed.Hash
	// extension takes messages of a name, extend sends one to all peers, and extended waits until so many have come.
	extension(name string)
	extend(name, message string)
	extended(name string, count int) []string
	// conflict waits until the feed is frozen.
	conflict()
	close()
}

// info is the state of a feed.
type info struct {
	Length, ByteLength, ContiguousLength, Fork int
	Writable                                   bool
	RemoteContiguousLength                     int // of the feed: what some peer has told, here or gone
	Peers                                      []peerInfo
}

// peerInfo is what a feed knows of one peer.
type peerInfo struct {
	Synced                         bool
	Length, Fork, ContiguousLength int
}

// state is what to wait for: at least that long, but exactly of that fork, and so many peers that have told of themselves.
type state struct {
	length, contiguous int
	fork               int // -1: any
	synced             int
	remoteContiguous   int // some peer has all blocks below
	remoteLength       int // some peer is that long
}

// anyFork is where the fork of a state means nothing.
const anyFork = -1

func (s state) holds(i info) bool {
	synced, contiguous, length := 0, 0, 0
	for _, p := range i.Peers {
		if p.Synced {
			synced++
		}
		contiguous, length = max(contiguous, p.ContiguousLength), max(length, p.Length)
	}
	return i.Length >= s.length && i.ContiguousLength >= s.contiguous && (s.fork == anyFork || i.Fork == s.fork) &&
		synced >= s.synced && contiguous >= s.remoteContiguous && length >= s.remoteLength
}

// content is block index of a feed that fill has written.
func content(label string, index, size int) string {
	unit := fmt.Sprintf("%s %d;", label, index)
	return strings.Repeat(unit, size/len(unit)+1)[:size]
}
