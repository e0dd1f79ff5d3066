// Package dht keeps announcements alive and finds peers for 32-byte topics.
//
// A Discovery drives an Announcer (who tells the network that we have a topic) and a Finder (who asks
// the network who has it); kad-dht's SweepingProvider and IpfsDHT are these two as they are. What
// this package adds is the time table: a look-up that found nothing is soon repeated, one that
// found somebody is repeated at leisure, and an empty routing table is a state with a name,
// ErrNoNetwork, that is never taken for "nobody has it".
//
// The package knows no host and no feed: a topic is 32 bytes, and a peer that was found is handed to
// the caller.
package dht
