package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/p2pcore/p2pcore/node/api"
)

// maxLineBytes bounds a line of a stream: the events and objects that the CLI reads have no blocks in them.
const maxLineBytes = 1 << 20

// Events sends a request and calls fn with each event of the answer, until fn returns true or an error. An
// error event is the error. When the holder of the store goes away, the request is made anew by
// request and sent again.
func (c *Client) Events(ctx context.Context, request func() Request, fn func(api.Event) (bool, error)) error {
	return c.Lines(ctx, request, func(line []byte) (bool, error) {
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, fmt.Errorf("event of the store: %w", err)
		}
		if e.Event == "error" && e.Problem != nil {
			return false, e.Problem
		}
		return fn(e)
	})
}

// Lines is Events for lines of any kind.
func (c *Client) Lines(ctx context.Context, request func() Request, fn func(line []byte) (bool, error)) error {
	for losses := 0; ; losses++ {
		resp, err := c.Do(ctx, request())
		if err != nil {
			return err
		}
		before := losses
		done, err := readLines(resp.Body, func(line []byte) (bool, error) {
			losses = 0
			return fn(line)
		})
		resp.Body.Close()
		var broken *brokenError
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &broken):
			return err
		case !c.Lost(ctx, err) || before >= maxLosses:
			return broken.err
		}
		if c.opts.Note != nil {
			c.opts.Note("the process that held the store has ended; going on here")
		}
	}
}

// brokenError is the end of a stream before its last line.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }

func readLines(r io.Reader, fn func([]byte) (bool, error)) (done bool, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 4096), maxLineBytes)
	for in.Scan() {
		if done, err := fn(in.Bytes()); done || err != nil {
			return done, err
		}
	}
	if in.Err() != nil {
		return false, &brokenError{in.Err()}
	}
	return false, &brokenError{io.ErrUnexpectedEOF}
}

// Frames sends a request for blocks and calls fn with each frame, until fn returns true or an error. The bytes
// are valid during the call. A request that breaks off is made anew.
func (c *Client) Frames(ctx context.Context, request func() Request, fn func(kind byte, body []byte, more bool) (bool, error)) error {
	for losses := 0; ; losses++ {
		resp, err := c.Do(ctx, request())
		if err != nil {
			return err
		}
		in := bufio.NewReaderSize(resp.Body, 128<<10)
		var buf []byte
		for {
			var kind byte
			kind, buf, err = api.ReadFrame(in, buf)
			if err != nil {
				break
			}
			losses = 0
			done, err := fn(kind, buf, in.Buffered() > 0)
			if done || err != nil {
				resp.Body.Close()
				return err
			}
		}
		resp.Body.Close()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !c.Lost(ctx, err) || losses >= maxLosses:
			return fmt.Errorf("the blocks broke off: %w", err)
		}
		if c.opts.Note != nil {
			c.opts.Note("the process that held the store has ended; going on here")
		}
	}
}
