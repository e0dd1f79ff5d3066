package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/p2pcore/p2pcore/node/api"
)

// referenceCommand prints docs/reference.md; a test compares the two.
func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print the reference of all commands, in Markdown",
		Hidden: true,
		Args:   exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.writeReference(a.stdout)
			return nil
		},
	}
}

func (a *app) writeReference(w io.Writer) {
	fmt.Fprintln(w, "# Reference")
	fmt.Fprintln(w)
	fmt.Fprintln(w, "This page is what the program prints of itself. Each flag has a key in the configuration file and a variable in the")
	fmt.Fprintln(w, "environment; a flag counts for more than the environment, and that for more than the file. The HTTP API describes itself at")
	fmt.Fprintln(w, "`/v1/openapi.yaml`.")
	fmt.Fprint(w, "\n## Exit codes\n\nEvery command has `--json`, and these exit codes. An error as JSON has the code's name and number.\n\n| code | name |\n|---|---|\n")
	for code := range api.Code(256) {
		if name := code.String(); !strings.HasPrefix(name, "exit-") {
			fmt.Fprintf(w, "| %d | %s |\n", int(code), name)
		}
	}
	all := settings(a.root)
	fmt.Fprint(w, "\n## Global flags\n\n")
	writeFlags(w, a.root.PersistentFlags(), all)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if sub.HasSubCommands() {
				walk(sub)
				continue
			}
			writeCommand(w, sub, all)
		}
	}
	walk(a.root)
}

func writeCommand(w io.Writer, cmd *cobra.Command, all []setting) {
	fmt.Fprintf(w, "\n## %s\n\n```text\n%s\n```\n\n", cmd.CommandPath(), cmd.UseLine())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintln(w, text)
	if flags := cmd.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		fmt.Fprintln(w)
		writeFlags(w, flags, all)
	}
}

// writeFlags writes a table of flags, their keys and variables.
func writeFlags(w io.Writer, flags *pflag.FlagSet, all []setting) {
	rows := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		if rows++; rows == 1 {
			fmt.Fprint(w, "| flag | key | variable | meaning |\n|---|---|---|---|\n")
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += "; default " + f.DefValue
		}
		key, env := "", envName(f.Name)
		if i := slices.IndexFunc(all, func(s setting) bool { return s.flag == f }); i >= 0 {
			key = "`" + all[i].key + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | `%s` | %s |\n", name, key, env, strings.ReplaceAll(usage, "|", `\|`))
	})
}
