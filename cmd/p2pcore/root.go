package main

import (
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

// globalFlags are the flags of every command.
type globalFlags struct {
	store, config       string
	json, quiet         bool
	progress            string
	logLevel, logFormat string
	timeout             time.Duration
	network             string
	bootstrap           []string
	listen              []string
	peers               []string
	mdns, relay         bool
}

func (f *globalFlags) shape() api.NodeShape {
	return api.NodeShape{Network: f.network, Bootstrap: f.bootstrap, Listen: f.listen, MDNS: f.mdns, Relay: f.relay}
}

func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "p2pcore",
		Short: "Share append-only, signed feeds between peers",
		Long: `p2pcore puts files and logs online under a key. Who has the key can fetch them from
any peer, and every block is verified.

  p2pcore share FILE         prints a link, and serves the file
  p2pcore get LINK           fetches it, anywhere`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.flags.store, "store", "", "the store's `DIR`; default $XDG_DATA_HOME/p2pcore, else ~/.local/share/p2pcore")
	f.StringVar(&a.flags.config, "config", "", "the configuration `FILE`, in TOML; default $XDG_CONFIG_HOME/p2pcore/config.toml, else ~/.config/p2pcore/config.toml")
	f.BoolVar(&a.flags.json, "json", false, "results as JSON, one object per line")
	f.BoolVar(&a.flags.quiet, "quiet", false, "no progress and no hints")
	f.StringVar(&a.flags.progress, "progress", "auto", "progress on stderr: auto, plain, json or none")
	f.StringVar(&a.flags.logLevel, "log-level", "warn", "log to stderr: debug, info, warn or error")
	f.StringVar(&a.flags.logFormat, "log-format", "text", "text or json")
	f.DurationVar(&a.flags.timeout, "timeout", 0, "give up, with exit code 21, when nothing came for so long")
	f.StringVar(&a.flags.network, "network", node.NetworkPublic, "public, none, or the `NAME` of a private network")
	f.StringArrayVar(&a.flags.bootstrap, "bootstrap", nil, "`MULTIADDR` of a bootstrap peer, or @FILE with one per line; repeatable")
	f.StringArrayVar(&a.flags.listen, "listen", nil, "`MULTIADDR` to listen on; repeatable; default QUIC and TCP on all interfaces")
	f.StringArrayVar(&a.flags.peers, "peer", nil, "`MULTIADDR` of a peer to dial as well; repeatable")
	f.BoolVar(&a.flags.mdns, "mdns", true, "look for peers in the local network")
	f.BoolVar(&a.flags.relay, "relay", true, "use relays and hole punching")
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error { return a.prepare(cmd) }
	root.AddCommand(a.shareCommand(), a.getCommand(), a.createCommand(), a.appendCommand(), a.catCommand(), a.tailCommand(),
		a.blockCommand(), a.proveCommand(), a.checkCommand(), a.clearCommand(), a.truncateCommand(), a.rmCommand(), a.purgeCommand(),
		a.lsCommand(), a.infoCommand(), a.keyCommand(), a.verifyCommand(), a.idCommand(), a.replicateCommand(), a.seedCommand(), a.unseedCommand(), a.syncCommand(),
		a.statusCommand(), a.peersCommand(),
		a.daemonCommand(), a.bootstrapCommand(), a.configCommand(), a.versionCommand(),
		a.referenceCommand())
	a.completeCores(root)
	strictHelp(root)
	return root
}

// strictHelp makes cobra's own commands refuse what they do not know, as ours do: a script must not take a page of help for
// what it has asked for.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				_, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown command %q", strings.Join(args, " "))
				}
				return err
			}
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("there is no completion for %q; want bash, fish, powershell or zsh", args[0])
				}
				return nil
			}
		}
	}
}

// prepare reads the environment and checks the global flags.
func (a *app) prepare(cmd *cobra.Command) error {
	if err := a.configure(cmd, os.LookupEnv); err != nil {
		return err
	}
	f := &a.flags
	mode, err := output.ParseMode(f.progress, isTerminal(a.stderr))
	if err != nil {
		return err
	}
	a.out.JSON, a.out.Quiet, a.out.Progress = f.json, f.quiet, mode
	if a.log, err = a.newLogger(mode); err != nil {
		return err
	}
	// Libraries that know only the standard logger (zeroconf, quic-go) tell details here; what an
	// operator has to know of them comes as an error or a warning of ours.
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(a.log.Handler(), slog.LevelDebug).Writer())
	if f.store == "" {
		if f.store, err = defaultStore(); err != nil {
			return err
		}
	}
	if f.store, err = filepath.Abs(f.store); err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	if err := f.check(); err != nil {
		return err
	}
	a.running = true
	return nil
}

func (f *globalFlags) check() error {
	if f.timeout < 0 {
		return fmt.Errorf("--timeout %v is negative", f.timeout)
	}
	if f.network == "" || len(f.network) > 64 || strings.ContainsFunc(f.network, badNetworkRune) {
		return fmt.Errorf("--network %q: a network's name has 1 to 64 of A–Z a–z 0–9 . _ -", f.network)
	}
	if f.network == node.NetworkNone && len(f.bootstrap) > 0 {
		return fmt.Errorf("--bootstrap makes no sense with --network none; --peer dials a peer directly")
	}
	for _, l := range f.listen {
		if _, err := ma.NewMultiaddr(l); err != nil {
			return fmt.Errorf("--listen %q: %w; want for example /ip4/0.0.0.0/udp/4101/quic-v1", l, err)
		}
	}
	for _, b := range f.bootstrap {
		if b == "@" {
			return fmt.Errorf("--bootstrap @FILE lacks the file")
		}
		if strings.HasPrefix(b, "@") {
			continue
		}
		if _, err := api.ParsePeers([]string{b}); err != nil {
			return fmt.Errorf("--bootstrap: %w", err)
		}
	}
	if _, err := api.ParsePeers(f.peers); err != nil {
		return fmt.Errorf("--peer: %w", err)
	}
	return nil
}

func badNetworkRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}

// envPrefix begins the variable of each flag: --log-level is P2PCORE_LOG_LEVEL.
const envPrefix = "P2PCORE_"

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configure settles the flags of a command that were not given: from their variables in the environment, else from the
// configuration file.
func (a *app) configure(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	known := settings(a.root)
	if cmd.Annotations[ownConfig] == "" {
		path, named, err := a.configPath()
		if err != nil {
			return err
		}
		var faults []error
		if a.config, faults = loadConfig(path, named, known); len(faults) > 0 {
			return faults[0]
		}
	}
	mine := make(map[*pflag.Flag]bool)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { mine[f] = true })
	for _, s := range known {
		if !mine[s.flag] {
			continue
		}
		if _, err := a.settle(s, lookup); err != nil {
			return err
		}
	}
	return nil
}

// settle sets one flag, unless it was given, and notes where its value comes from. Variables of repeatable flags hold
// several values with commas or blanks between them.
func (a *app) settle(s setting, lookup func(string) (string, bool)) (origin string, err error) {
	defer func() { a.origins[s.flag] = origin }()
	if s.flag.Changed {
		return originFlag, nil
	}
	if value, ok := lookup(s.env); ok && value != "" {
		values := []string{value}
		if s.flag.Value.Type() == "stringArray" {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
		}
		for _, v := range values {
			if err := s.flag.Value.Set(v); err != nil {
				return "", fmt.Errorf("%s=%q: %w", s.env, value, err)
			}
		}
		s.flag.Changed = true
		return originEnv, nil
	}
	set, err := a.config.apply(s)
	if set {
		return originFile, err
	}
	return originDefault, err
}

func (a *app) newLogger(mode output.Mode) (*slog.Logger, error) {
	var level slog.Level
	switch a.flags.logLevel {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(a.flags.logLevel)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", a.flags.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch {
	case a.flags.logFormat == "json", mode == output.JSON:
		return slog.New(slog.NewJSONHandler(a.stderr, opts)), nil
	case a.flags.logFormat == "text":
		return slog.New(slog.NewTextHandler(a.stderr, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", a.flags.logFormat)
}

// exactArgs is cobra.ExactArgs with a message that says what is missing.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("p2pcore %s lacks %s", cmd.Name(), strings.Join(names[len(args):], " "))
		}
		if len(args) > len(names) {
			return fmt.Errorf("p2pcore %s takes %d argument(s), not %d: %q", cmd.Name(), len(names), len(args), args[len(names):])
		}
		return nil
	}
}
