package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

// daemonListen is where a daemon listens unless it is told otherwise: its addresses survive a restart.
var daemonListen = []string{
	"/ip4/0.0.0.0/udp/4101/quic-v1",
	"/ip4/0.0.0.0/tcp/4101",
	"/ip6/::/udp/4101/quic-v1",
	"/ip6/::/tcp/4101",
}

const (
	// minCacheBytes and maxCacheBytes bound the store's cache.
	minCacheBytes = 1 << 20
	maxCacheBytes = 1 << 40
	// restBytes is what a daemon needs beside its store's cache and write buffers, with dozens of peers. Where the bound
	// leaves less, the garbage collector would have half of the processor.
	restBytes = 64 << 20
)

func (a *app) daemonCommand() *cobra.Command {
	var d holder.Daemon
	var cache, memory string
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the node in the foreground",
		Long: `daemon serves the store to peers, seeds what p2pcore seed and share told it to, and serves the API to other commands
and to programs, until Ctrl-C. It prints "ready" when it does, and tells systemd. Programs find the token for the API
in the file api-token of the store.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, f := range []struct{ name, value string }{{"api", d.API}, {"metrics", d.Metrics}, {"tcp-listen", d.TCP}} {
				if f.value == "" || f.value == "none" {
					continue
				}
				if _, _, err := net.SplitHostPort(f.value); err != nil {
					return api.Errorf(api.CodeUsage, "--%s %q: want HOST:PORT, or none", f.name, f.value)
				}
			}
			if d.API == "none" {
				d.API = ""
			}
			if d.Metrics == "none" {
				d.Metrics = ""
			}
			if d.TCP == "none" {
				d.TCP = ""
			}
			if _, err := node.ParseAnnouncePolicy(d.Announce); err != nil {
				return api.Errorf(api.CodeUsage, "--announce %q: want chosen, default or all", d.Announce)
			}
			if d.TCPIdentity && d.TCP == "" {
				return api.Errorf(api.CodeUsage, "--tcp-identity is of no use without --tcp-listen")
			}
			limit, err := memoryLimit(cache, memory, &d)
			if err != nil {
				return err
			}
			// What the environment says to Go's runtime holds unless somebody told this program something else.
			if os.Getenv("GOMEMLIMIT") == "" || a.origin(cmd, "memory") != originDefault {
				debug.SetMemoryLimit(limit)
			}
			if len(a.flags.listen) == 0 {
				a.flags.listen = daemonListen
			}
			return a.daemon(cmd, d)
		},
	}
	cmd.Flags().StringVar(&d.API, "api", "127.0.0.1:4180", "serve the HTTP API at `ADDR` too; none: on the store's socket alone")
	cmd.Flags().StringVar(&d.Metrics, "metrics", "", "serve Prometheus metrics and health at `ADDR`, without a token; the API has them too")
	cmd.Flags().StringVar(&d.TCP, "tcp-listen", "", "serve JavaScript peers without libp2p at `ADDR`, over raw TCP")
	cmd.Flags().StringVar(&d.Announce, "announce", node.AnnounceChosen.String(), "which feeds to announce: chosen (those that are seeded or shared), default (the default feed alone) or all")
	cmd.Flags().BoolVar(&d.TCPIdentity, "tcp-identity", false, "let peers on raw TCP recognize this node by its identity")
	cmd.Flags().StringVar(&cache, "cache", "32MiB", "`SIZE` of the store's cache in memory")
	cmd.Flags().StringVar(&memory, "memory", "256MiB", "soft bound on the memory that Go takes, a `SIZE`: near it the garbage collector works harder; none: no bound; GOMEMLIMIT in the environment comes before the default")
	return cmd
}

// memoryLimit reads the values of --cache, for d, and of --memory.
func memoryLimit(cache, memory string, d *holder.Daemon) (limit int64, err error) {
	d.CacheBytes, err = parseBytes(cache)
	if err != nil || d.CacheBytes < minCacheBytes || d.CacheBytes > maxCacheBytes {
		return 0, api.Errorf(api.CodeUsage, "--cache %q: want 1MiB to 1024GiB", cache)
	}
	if memory == "none" {
		return math.MaxInt64, nil
	}
	least := d.CacheBytes + 4*holder.MemTableBytes + restBytes
	if limit, err = parseBytes(memory); err != nil || limit < least {
		return 0, api.Errorf(api.CodeUsage, "--memory %q: want at least %dMiB, with a cache of %s, or none", memory, (least+1<<20-1)>>20, cache)
	}
	return limit, nil
}

func (a *app) daemon(cmd *cobra.Command, d holder.Daemon) error {
	opts := a.clientOptions(cmd, false)
	d.Peers = a.flags.peers
	opts.Holder.Daemon = &d
	h, err := client.Take(cmd.Context(), opts)
	if err != nil {
		return err
	}
	err = h.Serve(cmd.Context(), func(r api.Ready) error {
		for _, line := range []struct{ what, where string }{
			{"peer", r.PeerID}, {"addresses", strings.Join(r.Addrs, " ")}, {"api", r.API}, {"metrics", r.Metrics}, {"tcp", r.TCP},
		} {
			if line.where != "" {
				a.out.Note("%s: %s", line.what, line.where)
			}
		}
		return a.out.Object(r, "ready")
	})
	if errors.Is(err, errInterrupted) {
		err = nil
	}
	if closing := h.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("close the store: %w", closing))
	}
	return err
}
