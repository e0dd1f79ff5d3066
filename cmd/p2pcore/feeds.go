package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

// corePath is the path of a feed in the API. CORE may hold any characters.
func corePath(core, rest string) string { return "/cores/" + url.PathEscape(coreName(core)) + rest }

// coreName is CORE as it travels to the API. Of a link that is the key alone: a request's line is no place for secrets.
func coreName(core string) string {
	if link, ok, err := api.ParseCore(core); err == nil && ok {
		return link.Key.String()
	}
	return core
}

// checkCore finds a malformed key before the store is opened.
func checkCore(core string) error {
	if core == "" {
		return api.Errorf(api.CodeUnknownKey, "the feed's name is empty")
	}
	_, _, err := api.ParseCore(core)
	return err
}

func (a *app) createCommand() *cobra.Command {
	var secret encryption
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a new writable feed",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := api.CheckName(args[0]); err != nil {
				return err
			}
			body, err := secret.of(a, api.NewCore{Name: args[0]})
			if err != nil {
				return err
			}
			info, err := newCore(cmd.Context(), a.store(cmd, false), body)
			if err != nil {
				return err
			}
			return a.out.Object(info, info.ID)
		},
	}
	secret.add(cmd)
	return cmd
}

func newCore(ctx context.Context, c *client.Client, body api.NewCore) (info api.CoreInfo, err error) {
	err = c.JSON(ctx, jsonRequest(http.MethodPost, "/cores", body), &info)
	return info, err
}

func (a *app) lsCommand() *cobra.Command {
	var removed bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the feeds of the store",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var infos []api.CoreInfo
			request := client.Request{Method: http.MethodGet, Path: "/cores"}
			if removed {
				request.Query = url.Values{"removed": {"1"}}
			}
			if err := a.store(cmd, true).JSON(cmd.Context(), request, &infos); err != nil {
				return err
			}
			if a.out.JSON {
				for _, info := range infos {
					if err := a.out.Object(info, ""); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			if len(infos) > 0 {
				fmt.Fprintln(w, "NAME\tBLOCKS\tHERE\tBYTES\t\tKEY")
			}
			for _, i := range infos {
				name, mode := i.Name, "r"
				if name == "" {
					name = "-"
				}
				if i.Writable {
					mode = "rw"
				}
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", name, i.Length, i.LocalBlocks, output.Bytes(i.ByteLength), mode, i.ID)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&removed, "removed", false, "those that rm has taken out of the group, instead")
	return cmd
}

func (a *app) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info CORE",
		Short: "Describe one feed",
		Args:  exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			var info api.CoreInfo
			if err := a.store(cmd, true).JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: corePath(args[0], "")}, &info); err != nil {
				return err
			}
			return a.out.Object(info, infoText(info))
		},
	}
}

func infoText(i api.CoreInfo) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range [][2]any{
		{"name", i.Name}, {"key", i.ID}, {"key (hex)", i.Key}, {"discovery key", i.DiscoveryKey},
		{"length", fmt.Sprintf("%d blocks, %s", i.Length, output.Bytes(i.ByteLength))},
		{"fork", i.Fork},
		{"stored here", fmt.Sprintf("%d blocks, the first %d without a gap; %s on disk", i.LocalBlocks, i.ContiguousLength, output.Bytes(i.DiskBytes))},
		{"remote length", i.RemoteLength}, {"writable", i.Writable}, {"encrypted", i.Encrypted}, {"seeding", i.Seeding}, {"announced", i.Announced}, {"announcing", i.Announcing}, {"no network", i.NoNetwork},
		{"peers", i.Peers}, {"removed", i.Removed},
	} {
		if (row[0] == "no network" || row[0] == "announcing") && row[1] == "" || row[0] == "removed" && row[1] == false {
			continue
		}
		fmt.Fprintf(w, "%v\t%v\n", row[0], row[1])
	}
	w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) verifyCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify [CORE…]",
		Short: "Audit all stored blocks against the signed heads",
		Long: `verify reads every stored block and tree node and compares it with the feed's signed head. --repair drops
what does not fit: it counts as missing then, and is fetched again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			for _, core := range args {
				if err := checkCore(core); err != nil {
					return err
				}
				query.Add("core", coreName(core))
			}
			method := http.MethodGet
			if repair {
				method = http.MethodPost
				query.Set("repair", "1")
			}
			return a.verify(cmd.Context(), a.store(cmd, true), method, query)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "drop what does not fit, so that it is fetched again")
	return cmd
}

func (a *app) verify(ctx context.Context, c *client.Client, method string, query url.Values) error {
	seen := make(map[string]bool) // of audits, should the stream be repeated
	damaged := 0
	request := func() client.Request {
		return client.Request{Method: method, Path: "/verify", Query: query}
	}
	err := c.Lines(ctx, request, func(line []byte) (bool, error) {
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		switch e.Event {
		case "end":
			return true, nil
		case "error":
			return false, e.Problem
		}
		var audit api.Audit
		if err := json.Unmarshal(line, &audit); err != nil {
			return false, err
		}
		if seen[audit.Key] {
			return false, nil
		}
		seen[audit.Key] = true
		if !audit.OK {
			damaged++
		}
		return false, a.out.Object(audit, auditText(audit))
	})
	if err != nil {
		return err
	}
	if damaged > 0 {
		return api.Errorf(api.CodeVerification, "%d of %d feed(s) are damaged; what is listed does not fit the signed head", damaged, len(seen))
	}
	return nil
}

func auditText(a api.Audit) string {
	name := a.ID
	if a.Name != "" {
		name = a.Name + " " + a.ID
	}
	if a.OK && a.Repaired == nil {
		return fmt.Sprintf("ok       %s: %d of %d blocks stored", name, a.LocalBlocks, a.Length)
	}
	s := "damaged  " + name
	if a.Repaired != nil {
		s = fmt.Sprintf("repaired %s: %d blocks and %d tree nodes dropped, %d of %d blocks stored", name, a.Repaired.Blocks, a.Repaired.Nodes, a.LocalBlocks, a.Length)
	}
	for _, d := range a.Damage {
		s += "\n  " + d
	}
	if a.More > 0 {
		s += fmt.Sprintf("\n  and %d more", a.More)
	}
	return s
}
