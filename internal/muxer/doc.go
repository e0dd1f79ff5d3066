// Package muxer lays many channels over one stream of frames: Protomux without the I/O.
//
// A [Mux] is a plain value in memory. What arrives is handed to Receive and taken apart by Next, one
// event at a time, so that a frame of many tiny messages costs no memory of its own. What is to be
// sent piles up in frames that Take hands out. A Mux starts nothing and is not safe for concurrent
// use; its owner holds a lock around it.
//
// A frame is
//
//	uint channel id, uint type, payload
//
// where the id is the sender's own number of the channel, from 1. Channel 0 carries control:
//
//	type 0 batch   uint channel id, then repeated: uint n > 0 and n bytes (uint type, payload),
//	               or n = 0 and uint new channel id
//	type 1 open    uint sender's id, string protocol, buffer id, handshake to the end
//	type 2 reject  uint id of the side that opened
//	type 3 close   uint sender's id
//
// A channel is paired by protocol and id: each side sends its own open, and the channel is open on a
// side that has sent one and seen the other's. An open that nobody here has asked for is held, as an
// event, until the owner opens the same channel or rejects it; its messages are buffered meanwhile.
//
// Rules: the format notes of Hypercore 11, section 9; measured against protomux 3.12.1. Where
// protomux has no bound, this package has one (limits.go).
package muxer
