package muxer

import "errors"

// Errors of Next. Each of them is the remote's fault and ends the stream: after one of them the two
// sides no longer agree on what a channel id means.
var (
	ErrMalformed     = errors.New("muxer: malformed frame")
	ErrInvalidOpen   = errors.New("muxer: open of a channel id that is not free")
	ErrInvalidReject = errors.New("muxer: reject of a channel that was not waiting")
	ErrNesting       = errors.New("muxer: batches nested too deeply")
)

// Errors of Open and Send.
var (
	// ErrDuplicate: a channel with this protocol and id is open or waiting already.
	ErrDuplicate = errors.New("muxer: channel exists")
	// ErrClosed: the channel is not open any more.
	ErrClosed = errors.New("muxer: channel closed")
	// ErrTooLarge: the message does not fit into a frame.
	ErrTooLarge = errors.New("muxer: message too large")
)
