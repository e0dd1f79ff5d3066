// Package wire is the byte form of what two peers say on one channel of the protocol
// hypercore/alpha: the ten messages and the handshake of the channel's open.
//
// It has values, Append and Parse, and nothing else: no I/O, no state, no policy. Every message is
// used as a pointer (*Sync, *Data, …), which is the only form that implements [Message]. A
// parsed message aliases the bytes it was parsed from where it holds bytes (block values,
// signatures, manifests, extension payloads); hashes and numbers are copied.
//
// As in the reference implementation, bytes after the last field and unknown flag bits are ignored;
// everything that is read past the end, and every number above 2^53-1, is an error.
//
// Layouts: the format notes of Hypercore 11, section 10; measured against hypercore 11.37.1.
package wire
