package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm CORE",
		Short: "Take a feed out of the group; what is stored of it stays",
		Long: `rm takes a feed out of the group: it is not listed, seeded, announced or given to peers any more, and whoever uses it
here is told. Its blocks stay, and every command that uses the feed brings it back as it was; ls --removed
lists such feeds, and purge deletes them. CORE is a whole key or a name.`,
		Args: exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			done, err := remove(cmd, a.store(cmd, true), args[0], nil)
			if err != nil {
				return err
			}
			return a.out.Object(done, fmt.Sprintf("removed %s; 0 B given back, what is stored stays", done.ID))
		},
	}
}

func (a *app) purgeCommand() *cobra.Command {
	var yes, forget bool
	cmd := &cobra.Command{
		Use:   "purge CORE",
		Short: "Delete a feed for good, and give its space back",
		Long: `purge deletes a feed: blocks, tree, secret key and name. It asks before, unless --yes is given. Of a feed that
its name makes again, the last fork is remembered, so that a new feed of that name goes on as its next fork and its
readers follow. With --forget nothing is remembered, nor of a feed that was purged before: if it is made again, its readers see a
feed that contradicts itself, and take nothing of it any more. CORE is a whole key or a name.`,
		Args: exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			return a.purge(cmd, args[0], yes, forget)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&forget, "forget", false, "do not remember the feed's last fork either")
	return cmd
}

func (a *app) purge(cmd *cobra.Command, core string, yes, forget bool) error {
	c := a.store(cmd, true)
	query := url.Values{"purge": {"1"}}
	if forget {
		query.Set("forget", "1")
		a.out.Note("with --forget nothing keeps a feed of the same key from beginning anew: its readers would take nothing of it any more")
	}
	if !yes {
		question, err := purgeQuestion(cmd, c, core, forget)
		if err != nil {
			return err
		}
		if err := a.confirm(question); err != nil {
			return err
		}
	}
	done, err := remove(cmd, c, core, query)
	if err != nil {
		return err
	}
	return a.out.Object(done, fmt.Sprintf("purged %s; %d blocks deleted, %s given back", done.ID, done.Blocks, output.Bytes(done.Bytes)))
}

// purgeQuestion says what would be lost. It fails if there is nothing to purge.
func purgeQuestion(cmd *cobra.Command, c *client.Client, core string, forget bool) (string, error) {
	var info api.CoreInfo
	request := client.Request{Method: http.MethodGet, Path: corePath(core, ""), Query: url.Values{"exact": {"1"}}}
	if err := c.JSON(cmd.Context(), request, &info); err != nil {
		switch code := api.ProblemOf(err).Code; {
		case forget && code == api.CodeUnknownKey: // purged before
			return fmt.Sprintf("forget the last fork of %s? a feed of that key would begin anew", shorten(core)), nil
		case code == api.CodeVerification: // too damaged to be described
			return fmt.Sprintf("purge %s, which is damaged? what is stored of it is lost", shorten(core)), nil
		}
		return "", err
	}
	lost := "they can be fetched again from whoever has them"
	if info.Writable {
		lost = "it is written here: its secret key is lost with them, unless its name makes it again"
	}
	return fmt.Sprintf("purge %s with its %d blocks, %s? %s", info.ID, info.LocalBlocks, output.Bytes(info.DiskBytes), lost), nil
}

// remove sends the request of rm and purge.
func remove(cmd *cobra.Command, c *client.Client, core string, query url.Values) (done api.Removal, err error) {
	request := client.Request{Method: http.MethodDelete, Path: corePath(core, ""), Query: query, Once: true}
	err = c.JSON(cmd.Context(), request, &done)
	return done, err
}
