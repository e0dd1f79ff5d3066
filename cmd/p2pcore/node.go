package main

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) idCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Print this node's peer ID, made at first use",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var id api.Identity
			if err := a.store(cmd, false).JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: "/identity"}, &id); err != nil {
				return err
			}
			return a.out.Object(id, strings.Join(append([]string{id.PeerID}, id.Addrs...), "\n"))
		},
	}
}

func (a *app) bootstrapCommand() *cobra.Command {
	var addrsFile string
	cmd := &cobra.Command{
		Use:   "bootstrap --network NAME",
		Short: "Serve the DHT and the relay of a private network",
		Long: `bootstrap is the first node of a private network: others enter the network through its
addresses, with --network NAME --bootstrap MULTIADDR. It runs until Ctrl-C.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.flags.network == node.NetworkPublic || a.flags.network == node.NetworkNone {
				return api.Errorf(api.CodeUsage, "bootstrap serves a private network; give its name: --network NAME (not %s)", a.flags.network)
			}
			opts := a.clientOptions(cmd, false)
			opts.Holder.Bootstrap = true
			a.client = client.New(opts)
			return a.bootstrap(cmd, addrsFile)
		},
	}
	cmd.Flags().StringVar(&addrsFile, "addrs-file", "", "write the addresses to `FILE` too, one per line, for --bootstrap @FILE")
	return cmd
}

func (a *app) bootstrap(cmd *cobra.Command, addrsFile string) error {
	request := func() client.Request { return client.Request{Method: http.MethodGet, Path: "/bootstrap"} }
	err := a.client.Events(cmd.Context(), request, func(e api.Event) (bool, error) {
		if e.Event != "ready" {
			return false, nil
		}
		lines := strings.Join(e.Shared.Addrs, "\n")
		if addrsFile != "" {
			path, err := filepath.Abs(addrsFile)
			if err != nil {
				return false, err
			}
			if err := holder.WriteAtomic(path, []byte(lines+"\n")); err != nil {
				return false, fmt.Errorf("--addrs-file: %w", err)
			}
		}
		return false, a.out.Object(api.Identity{PeerID: e.Shared.PeerID, Addrs: e.Shared.Addrs}, lines)
	})
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// release is the result of version.
type release struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // the commit; empty if the tool chain has not recorded it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := release{version(), revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.out.Object(v, fmt.Sprintf("p2pcore %s (%s, %s)", v.Version, v.Go, v.Platform))
		},
	}
}

// version is the module's version as the Go tool chain has recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "devel"
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
