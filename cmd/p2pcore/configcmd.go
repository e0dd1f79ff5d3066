package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and check the configuration",
		Long: `Every flag has a key in the configuration file, which is TOML, and a variable in the environment. A flag counts for
more than the environment, and that for more than the file. The file is --config, else $P2PCORE_CONFIG, else
$XDG_CONFIG_HOME/p2pcore/config.toml, else ~/.config/p2pcore/config.toml. Global flags have their own name for a key;
those of one command are in a table of its name: [daemon] api = "none" is daemon --api none.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Print every value, and where it comes from",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.showConfig(cmd) },
	}, &cobra.Command{
		Use:         "validate [FILE]",
		Short:       "Check a configuration file; without FILE, the one that counts",
		Args:        cobra.MaximumNArgs(1),
		Annotations: map[string]string{ownConfig: "yes"},
		RunE:        func(cmd *cobra.Command, args []string) error { return a.validateConfig(args) },
	})
	return cmd
}

// ownConfig marks commands that read the configuration themselves.
const ownConfig = "own-config"

// shown is one line of config show.
type shown struct {
	Key    string `json:"key"`
	Value  any    `json:"value"` // text, or a list of it for flags that may be repeated
	Origin string `json:"origin"`
	Where  string `json:"where"` // the file, the variable or the flag; empty for the default
	Env    string `json:"env"`
}

func (a *app) showConfig(cmd *cobra.Command) error {
	table := ""
	for _, s := range settings(a.root) {
		line, err := a.show(s)
		if err != nil {
			return err
		}
		if a.out.JSON {
			if err := a.out.Object(line, ""); err != nil {
				return err
			}
			continue
		}
		i := strings.LastIndexByte(s.key, '.')
		if name := s.key[:max(i, 0)]; name != table {
			table = name
			fmt.Fprintf(a.stdout, "\n[%s]\n", table)
		}
		where := line.Origin
		if line.Where != "" {
			where += " " + line.Where
		}
		if _, err := fmt.Fprintf(a.stdout, "%s = %s  # %s\n", s.key[i+1:], literal(s.flag), where); err != nil {
			return err
		}
	}
	return nil
}

// show settles a flag, of whatever command, and tells where its value comes from.
func (a *app) show(s setting) (shown, error) {
	line := shown{Key: s.key, Origin: a.origins[s.flag], Env: s.env}
	if line.Origin == "" {
		// A flag of another command: nobody has settled it.
		var err error
		if line.Origin, err = a.settle(s, os.LookupEnv); err != nil {
			return line, err
		}
	}
	switch line.Origin {
	case originFile:
		line.Where = a.config.path
	case originEnv:
		line.Where = s.env
	case originFlag:
		line.Where = "--" + s.flag.Name
	}
	line.Value = s.flag.Value.String()
	if list, ok := s.flag.Value.(pflag.SliceValue); ok {
		line.Value = append([]string{}, list.GetSlice()...)
	}
	return line, nil
}

// literal is a flag's value in TOML.
func literal(f *pflag.Flag) string {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		items := make([]string, 0, len(list.GetSlice()))
		for _, item := range list.GetSlice() {
			items = append(items, quote(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	switch f.Value.Type() {
	case "bool", "uint64", "int":
		return f.Value.String()
	}
	return quote(f.Value.String())
}

// validated is the result of config validate.
type validated struct {
	File   string `json:"file"`
	Exists bool   `json:"exists"`
	OK     bool   `json:"ok"`
	Keys   int    `json:"keys"`
}

func (a *app) validateConfig(args []string) error {
	path, named, err := a.configPath()
	if err != nil {
		return err
	}
	if len(args) == 1 {
		path, named = args[0], true
	}
	// What the file sets must not be mixed with what this command was given.
	fresh := newApp(a.stdin, a.stdout, a.stderr)
	known := settings(fresh.root)
	c, faults := loadConfig(path, named, known)
	for _, s := range known {
		if _, err := c.apply(s); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) == 0 {
		if err := fresh.checkFlags(); err != nil {
			faults = append(faults, fmt.Errorf("the configuration %s: %w", path, err))
		}
	}
	switch len(faults) {
	case 0:
		text := fmt.Sprintf("%s: ok, %d keys", path, len(c.values))
		if !c.exists {
			text = fmt.Sprintf("there is no file %s; what no flag or variable says is the default", path)
		}
		return a.out.Object(validated{File: path, Exists: c.exists, OK: true, Keys: len(c.values)}, text)
	case 1:
		return api.Errorf(api.CodeUsage, "%v", faults[0])
	}
	for _, fault := range faults {
		a.out.Note("%v", fault)
	}
	return api.Errorf(api.CodeUsage, "the configuration %s has %d mistakes", path, len(faults))
}

// checkFlags finds what is wrong with the values of global flags.
func (a *app) checkFlags() error {
	if _, err := output.ParseMode(a.flags.progress, false); err != nil {
		return err
	}
	if _, err := a.newLogger(output.None); err != nil {
		return err
	}
	return a.flags.check()
}
