package protocol

import "errors"

// Errors to test for with errors.Is.
var (
	// ErrClosed: the connection or the exchange is closed.
	ErrClosed = errors.New("protocol: closed")
	// ErrAttached: an exchange for the same feed is attached to the connection already.
	ErrAttached = errors.New("protocol: feed is attached already")
	// ErrTimeout: the remote was silent, or did not read, for too long.
	ErrTimeout = errors.New("protocol: timeout")
	// ErrMalformedOpening: the first frame of a plain stream is not an opening frame.
	ErrMalformedOpening = errors.New("protocol: malformed opening frame")
	// ErrFrameTooLarge: a frame is larger than allowed at this point.
	ErrFrameTooLarge = errors.New("protocol: frame too large")
	// ErrCapability: the remote did not prove that it knows the feed's key.
	ErrCapability = errors.New("protocol: wrong capability")
)

// ViolationError says that the remote broke the protocol. Its node may refuse the peer from now on.
type ViolationError struct {
	Reason string // a constant text
	Err    error  // the cause, or nil
}

func (e *ViolationError) Error() string {
	if e.Err == nil {
		return "protocol: violation: " + e.Reason
	}
	return "protocol: violation: " + e.Reason + ": " + e.Err.Error()
}

func (e *ViolationError) Unwrap() error { return e.Err }
