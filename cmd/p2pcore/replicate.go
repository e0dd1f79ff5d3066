package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) replicateCommand() *cobra.Command {
	var addr string
	var live bool
	cmd := &cobra.Command{
		Use:   "replicate CORE… --tcp HOST:PORT",
		Short: "Replicate with a JavaScript peer over raw TCP",
		Long: `replicate connects to a JavaScript peer that pipes corestore.replicate() into TCP connections, and exchanges the
feeds that are named, until both sides have the same. A key that the store does not know yet is fetched.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("p2pcore replicate lacks CORE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if addr == "" {
				return api.Errorf(api.CodeUsage, "replicate lacks the peer: --tcp HOST:PORT")
			}
			if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
				return api.Errorf(api.CodeUsage, "--tcp %q: want HOST:PORT", addr)
			}
			for _, arg := range args {
				if err := checkCore(arg); err != nil {
					return err
				}
			}
			return a.replicate(cmd, args, addr, live)
		},
	}
	cmd.Flags().StringVar(&addr, "tcp", "", "the peer's `HOST:PORT`")
	cmd.Flags().BoolVar(&live, "live", false, "go on until Ctrl-C, and come back when the connection is lost")
	return cmd
}

// replicated is the result for one feed.
type replicated struct {
	ID            string `json:"id"`
	Length        uint64 `json:"length"`
	ByteLength    uint64 `json:"byteLength"`
	LocalBlocks   uint64 `json:"localBlocks"`
	BlocksFetched uint64 `json:"blocksFetched"`
}

func (a *app) replicate(cmd *cobra.Command, cores []string, addr string, live bool) error {
	c := a.store(cmd, false)
	if err := c.Acquire(cmd.Context()); err != nil { // is no wait for the network
		return err
	}
	query := url.Values{"tcp": {addr}}
	for _, core := range cores {
		query.Add("core", coreName(core))
	}
	if live {
		query.Set("live", "1")
	}
	ctx, wait := a.wait(cmd.Context())
	var bytes, done uint64
	err := wait.end(c.Events(ctx, func() client.Request {
		return client.Request{Method: http.MethodGet, Path: "/replicate", Query: query}
	}, func(e api.Event) (bool, error) {
		switch e.Event {
		case "progress":
			if e.Bytes != bytes || e.Done != done {
				bytes, done = e.Bytes, e.Done
				wait.moved()
			}
			a.out.Show("blocks", e, false)
		case "waiting":
			wait.waiting(e.Reason, e.Message)
			a.out.Waiting(e.Reason, e.Message)
		case "synced":
			wait.moved()
			a.out.Done()
			r := replicated{ID: e.Core, Length: e.Length, ByteLength: e.ByteLength, LocalBlocks: e.Done, BlocksFetched: e.Fetched}
			return false, a.out.Object(r, fmt.Sprintf("%s: %d of %d blocks, %d of them fetched now", e.Core, e.Done, e.Length, e.Fetched))
		case "done":
			return true, nil
		}
		return false, nil
	}))
	return err
}
