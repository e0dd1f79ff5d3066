package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) clearCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clear CORE A:B",
		Short: "Drop stored blocks, and give their space back",
		Long: `clear drops the blocks from A to before B of what is stored here; either may be left out. The feed's length stays,
and the blocks can be fetched again from whoever has them: of a feed that is written here, keep them somewhere.
CORE is a whole key or a name.`,
		Args: exactArgs("CORE", "A:B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			r, err := api.ParseRange(args[1])
			if err != nil {
				return err
			}
			body := api.Clearing{Start: r.Start}
			if !strings.HasSuffix(args[1], ":") {
				body.End = &r.End
			}
			var freed api.Freed
			if err := a.store(cmd, true).JSON(cmd.Context(), jsonRequest(http.MethodPost, corePath(args[0], "/clear"), body), &freed); err != nil {
				return err
			}
			if freed.Seeding && freed.Blocks > 0 {
				a.out.Note("the feed is seeded, so its blocks are fetched again; p2pcore unseed %s keeps them away", freed.ID)
			}
			return a.out.Object(freed, freedText(freed))
		},
	}
}

func (a *app) truncateCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "truncate CORE N",
		Short: "Cut a feed to its first N blocks, as a new fork",
		Long: `truncate drops the blocks of a feed that is written here from N on, for good, and goes on as a new fork. Its readers
follow. It asks before, unless --yes is given. CORE is a whole key or a name.`,
		Args: exactArgs("CORE", "N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			n, err := strconv.ParseUint(args[1], 10, 53)
			if err != nil {
				return api.Errorf(api.CodeUsage, "%q is no number of blocks", shorten(args[1]))
			}
			c := a.store(cmd, true)
			request := jsonRequest(http.MethodPost, corePath(args[0], "/truncate"), api.Truncation{Length: &n})
			if !yes {
				var info api.CoreInfo
				if err := c.JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: corePath(args[0], ""), Query: url.Values{"exact": {"1"}}}, &info); err != nil {
					return err
				}
				question := fmt.Sprintf("cut %s from %d to %d blocks? what is cut off is lost", info.ID, info.Length, min(n, info.Length))
				if err := a.confirm(question); err != nil {
					return err
				}
				request.Header.Set("If-Match", fmt.Sprintf(`"%d.%d"`, info.Fork, info.Length))
			}
			request.Once = true
			var freed api.Freed
			if err := c.JSON(cmd.Context(), request, &freed); err != nil {
				return err
			}
			return a.out.Object(freed, freedText(freed))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func freedText(f api.Freed) string {
	return fmt.Sprintf("%d blocks dropped, %s given back; the feed has %d blocks, fork %d", f.Blocks, output.Bytes(f.Bytes), f.Length, f.Fork)
}

// confirm asks on the terminal whether to go on. Without one nobody can answer, which is a mistake of the caller's.
func (a *app) confirm(question string) error {
	if !isTerminal(a.stdin) || !isTerminal(a.stderr) {
		return api.Errorf(api.CodeUsage, "%s; there is no terminal to ask on: add --yes", question)
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return api.Errorf(api.CodeError, "nothing was changed")
}
