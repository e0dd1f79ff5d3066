package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) catCommand() *cobra.Command {
	c := &catting{app: a}
	cmd := &cobra.Command{
		Use:   "cat CORE",
		Short: "Print a feed's blocks in order",
		Long: `cat prints blocks, and fetches what is missing. Without --end it stops where the feed ends now; with
--follow it goes on with new blocks until Ctrl-C.`,
		Args: exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.hasEnd = cmd.Flags().Changed("end")
			return c.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	addDecimal(f, &c.next, "start", "", "`INDEX` of the first block")
	addDecimal(f, &c.end, "end", "", "`INDEX` behind the last block")
	f.BoolVar(&c.follow, "follow", false, "go on with blocks as they are appended")
	f.StringVar(&c.format, "format", "raw", "raw: the bytes; lines: each block ends with a line end; json: one object per block")
	c.key.add(cmd, "the encryption key of the feed is in `FILE`, - for standard input; a wrong one gives noise")
	f.BoolVar(&c.local, "local", false, "only what is stored here; a missing block is an error")
	return cmd
}

func (a *app) tailCommand() *cobra.Command {
	c := &catting{app: a, follow: true}
	last := uint64(1)
	cmd := &cobra.Command{
		Use:   "tail CORE",
		Short: "Print the newest blocks of a feed, and new ones as they come",
		Long:  "tail prints the newest block, or the last -n, and goes on with new ones as they are appended, anywhere, until Ctrl-C.",
		Args:  exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.last = &last
			return c.run(cmd, args[0])
		},
	}
	addDecimal(cmd.Flags(), &last, "last", "n", "`N`umber of blocks to begin with")
	cmd.Flags().StringVar(&c.format, "format", "raw", "raw: the bytes; lines: each block ends with a line end; json: one object per block")
	c.key.add(cmd, "the encryption key of the feed is in `FILE`, - for standard input; a wrong one gives noise")
	return cmd
}

// catting is one run of cat.
type catting struct {
	app           *app
	next, end     uint64
	hasEnd        bool
	follow, local bool
	last          *uint64 // the last so many blocks instead of those from next on
	key           keyFile
	format        string

	core string
	w    *bufio.Writer
}

func (c *catting) run(cmd *cobra.Command, core string) error {
	a := c.app
	if a.out.JSON {
		c.format = "json"
	}
	switch {
	case c.format != "raw" && c.format != "lines" && c.format != "json":
		return api.Errorf(api.CodeUsage, "--format %q: want raw, lines or json", c.format)
	case c.hasEnd && c.end < c.next:
		return api.Errorf(api.CodeUsage, "--end %d lies before --start %d", c.end, c.next)
	}
	if err := checkCore(core); err != nil {
		return err
	}
	c.core = core
	link, whole, err := api.ParseCore(core)
	if err != nil {
		return err
	}
	if whole {
		c.core = link.Key.String()
	}
	// A whole key or a link can be fetched into a new store; a name or a prefix means something in a store only.
	store := a.store(cmd, !whole || c.local)
	if err := store.Acquire(cmd.Context()); err != nil { // is no wait for the network
		return c.ended(err)
	}
	if err := a.giveKey(cmd.Context(), store, c.core, link, &c.key); err != nil {
		return err
	}
	ctx, wait := a.wait(cmd.Context())
	c.w = bufio.NewWriterSize(a.stdout, 128<<10)
	request := func() client.Request {
		return client.Request{
			Method: http.MethodGet,
			Path:   corePath(c.core, "/blocks"),
			Query:  withPeers(c.query(), link.Peers, a.flags.peers),
			Header: http.Header{"Accept": {api.ContentFrames}},
		}
	}
	err = wait.end(store.Frames(ctx, request, func(kind byte, body []byte, more bool) (bool, error) {
		if kind == api.FrameEvent {
			return c.event(body, wait)
		}
		wait.moved()
		if err := c.block(body); err != nil || more {
			return false, err
		}
		return false, c.w.Flush()
	}))
	if flushErr := c.w.Flush(); err == nil {
		err = flushErr
	}
	return c.ended(err)
}

// ended is how the command ends with err: an interrupt is the way to end --follow.
func (c *catting) ended(err error) error {
	if errors.Is(err, errInterrupted) && c.follow {
		return nil
	}
	return err
}

func (c *catting) query() url.Values {
	q := url.Values{"start": {strconv.FormatUint(c.next, 10)}}
	if c.last != nil {
		q = url.Values{"last": {strconv.FormatUint(*c.last, 10)}}
	}
	if c.hasEnd {
		q.Set("end", strconv.FormatUint(c.end, 10))
	}
	if c.follow {
		q.Set("follow", "1")
	}
	if c.local {
		q.Set("local", "1")
	}
	return q
}

func (c *catting) event(body []byte, wait *patience) (done bool, err error) {
	var e api.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return false, err
	}
	switch e.Event {
	case "end":
		return true, nil
	case "error":
		return false, e.Problem
	case "start":
		c.next, c.last = e.Start, nil
	case "forked":
		c.next = e.Length
		if err := c.w.Flush(); err != nil {
			return false, err
		}
		c.app.out.Note("the feed was rewritten (fork %d): from block %d on other blocks follow", e.Fork, e.Length)
	case "waiting":
		wait.waiting(e.Reason, e.Message)
		if !e.Early {
			c.app.out.Waiting(e.Reason, e.Message)
		}
	}
	return false, nil
}

// block prints the next block.
func (c *catting) block(b []byte) error {
	index := c.next
	c.next++
	switch c.format {
	case "json":
		line, err := json.Marshal(api.NewBlockLine(index, b))
		if err != nil {
			return err
		}
		_, err = c.w.Write(append(line, '\n'))
		return err
	case "lines":
		if _, err := c.w.Write(b); err != nil {
			return err
		}
		if len(b) > 0 && b[len(b)-1] == '\n' {
			return nil
		}
		return c.w.WriteByte('\n')
	}
	_, err := c.w.Write(b)
	return err
}
