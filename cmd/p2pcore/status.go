package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Describe the process that holds the store, and its node",
		Long: `status describes the daemon, or whatever process holds the store now. With --ready it fails unless a daemon, or a
bootstrap node, has the store and is ready: a health check for containers and scripts.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var st api.Status
			if err := a.store(cmd, true).JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/status"}, &st); err != nil {
				return err
			}
			if err := a.out.Object(st, statusText(st)); err != nil {
				return err
			}
			if ready && !st.Ready {
				return api.Errorf(api.CodeError, "no daemon serves the store %s, or it is not ready yet", a.flags.store)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "fail, with exit code 1, unless a daemon is ready")
	return cmd
}

func statusText(st api.Status) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	row("store", "%s, %s used, %s free", st.Store, output.Bytes(st.Used), output.Bytes(st.Free))
	state := "ready"
	if !st.Ready {
		state = "no daemon"
	}
	row("process", "p2pcore %s, process %d, up %v, %s", st.Command, st.PID, time.Duration(st.Uptime)*time.Second, state)
	row("seeding", "%d feeds", st.Seeding)
	if !st.Online {
		row("node", "does not run")
		w.Flush()
		return strings.TrimRight(b.String(), "\n")
	}
	network := "network " + st.Shape.Network
	if st.NoNetwork != "" {
		network = st.NoNetwork
	}
	row("node", "%s, %s", st.PeerID, network)
	row("listen", "%s", strings.Join(st.Addrs, " "))
	row("reachable", "%s", st.Reachability)
	row("peers", "%d connected, feeds are replicated with %d", st.Peers, st.Streams)
	row("feeds", "%d open, %d announced, %d waiting for that; %d blocks behind", st.Open, st.Announced, st.Unannounced, st.Behind)
	row("received", "%d blocks, %s, %s/s", st.BlocksReceived, output.Bytes(st.BytesReceived), output.Bytes(uint64(st.RateIn)))
	row("sent", "%d blocks, %s, %s/s", st.BlocksSent, output.Bytes(st.BytesSent), output.Bytes(uint64(st.RateOut)))
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) peersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "peers [CORE]",
		Short: "List the connected peers, or those that share a feed",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) == 1 {
				if err := checkCore(args[0]); err != nil {
					return err
				}
				query.Set("core", coreName(args[0]))
			}
			var peers []api.PeerEntry
			if err := a.store(cmd, true).JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/peers", Query: query}, &peers); err != nil {
				return err
			}
			if a.out.JSON {
				for _, p := range peers {
					if err := a.out.Object(p, ""); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			if len(peers) > 0 {
				fmt.Fprintln(w, "PEER\tVIA\tDIR\tRTT\tFEEDS\tWE NEED\tTHEY NEED\tDOWN\tUP")
			}
			for _, p := range peers {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s/s\t%s/s\n", p.PeerID, via(p), p.Direction, rtt(p), p.Shared, p.WeNeed, p.TheyNeed,
					output.Bytes(uint64(p.RateIn)), output.Bytes(uint64(p.RateOut)))
			}
			return w.Flush()
		},
	}
}

func via(p api.PeerEntry) string {
	switch {
	case p.Limited:
		return p.Transport + ", limited"
	case !p.Replicating:
		return p.Transport + ", idle"
	}
	return p.Transport
}

func rtt(p api.PeerEntry) string {
	if p.RTT == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", p.RTT)
}
