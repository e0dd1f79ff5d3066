package secretstream

import "errors"

// Errors to test for with errors.Is.
var (
	// ErrHandshake: the remote's part of the handshake is wrong.
	ErrHandshake = errors.New("secretstream: handshake failed")
	// ErrFrame: a frame is none of this stream: too short, or its MAC is wrong. Nothing after it can
	// be read either.
	ErrFrame = errors.New("secretstream: invalid frame")
	// ErrTooLarge: the message does not fit in a frame.
	ErrTooLarge = errors.New("secretstream: message too large")
)
