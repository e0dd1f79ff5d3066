package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/node/api"
)

// completeTimeout bounds what a shell waits for when somebody presses the tab key: longer feels broken.
const completeTimeout = 2 * time.Second

// completeCores has the shell complete the feeds of the store wherever a command's usage says CORE.
func (a *app) completeCores(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		_, rest, ok := strings.Cut(cmd.Use, "CORE")
		if !ok {
			continue
		}
		after := cobra.ShellCompDirectiveNoFileComp
		if strings.Contains(rest, "FILE") {
			after = cobra.ShellCompDirectiveDefault
		}
		many := strings.HasPrefix(rest, "…")
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 && !many {
				return nil, after
			}
			return a.coresLike(cmd, prefix), cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// coresLike returns the names that begin with prefix, and the keys of feeds without a name. What goes wrong there is nobody
// to tell of.
func (a *app) coresLike(cmd *cobra.Command, prefix string) (found []cobra.Completion) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	var infos []api.CoreInfo
	if err := a.store(cmd, true).JSON(ctx, client.Request{Method: http.MethodGet, Path: "/cores"}, &infos); err != nil {
		return nil
	}
	for _, i := range infos {
		core := i.Name
		if core == "" {
			core = i.ID
		}
		if strings.HasPrefix(core, prefix) {
			found = append(found, core)
		}
	}
	return found
}
