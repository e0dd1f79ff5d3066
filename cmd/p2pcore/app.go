package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node/api"
)

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = api.Errorf(api.CodeInterrupted, "interrupted")

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          globalFlags
	out            *output.Out
	log            *slog.Logger
	root           *cobra.Command
	config         config
	origins        map[*pflag.Flag]string // where values come from
	group          *lifecycle.Group       // of the input's reader and of timers

	running bool           // the command line was understood
	client  *client.Client // nil until a command needs the store
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, group: lifecycle.NewGroup(), origins: make(map[*pflag.Flag]string)}
	a.out = &output.Out{Stdout: stdout, Stderr: stderr, Progress: output.None}
	a.root = a.newRoot()
	return a
}

// execute runs the command and maps its error to an exit code.
func (a *app) execute(args []string) (code api.Code) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	a.group.Go(func(context.Context) {
		select {
		case <-signals:
			cancel(errInterrupted)
			signal.Stop(signals) // a second one ends the process at once
		case <-ctx.Done():
		}
	})
	a.root.SetArgs(args)
	err := a.root.ExecuteContext(ctx)
	if a.client != nil {
		err = errors.Join(err, a.client.Close())
	}
	if err == nil {
		a.out.Done()
		return api.CodeOK
	}
	if !a.running {
		a.guessOutput(args)
	}
	p := a.problem(err)
	if p.Code != api.CodeOK {
		a.out.Fail(p)
	}
	return p.Code
}

// guessOutput finds the form of the error for a command line that was not understood, as far as it can be read.
func (a *app) guessOutput(args []string) {
	a.out.JSON = a.out.JSON || os.Getenv(envPrefix+"JSON") == "1" || os.Getenv(envPrefix+"JSON") == "true"
	progress := os.Getenv(envPrefix + "PROGRESS")
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" || arg == "--json=true" {
			a.out.JSON = true
		}
		if arg == "--progress" && i+1 < len(args) {
			progress = args[i+1]
		} else if value, ok := strings.CutPrefix(arg, "--progress="); ok {
			progress = value
		}
	}
	if progress == "json" {
		a.out.Progress = output.JSON
	}
}

// problem makes the error of a command what its user is told.
func (a *app) problem(err error) *api.Problem {
	if !a.running {
		return api.Errorf(api.CodeUsage, "%s; see p2pcore help", parsing.ReplaceAllString(err.Error(), ""))
	}
	return api.ProblemOf(err)
}

// parsing is how Go's number parser introduces its errors.
var parsing = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// isTerminal tells whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// store returns the client of the store. readOnly: the command makes no store.
func (a *app) store(cmd *cobra.Command, readOnly bool) *client.Client {
	if a.client == nil {
		a.client = client.New(a.clientOptions(cmd, readOnly))
	}
	return a.client
}

// origin tells where the value of a flag of cmd comes from.
func (a *app) origin(cmd *cobra.Command, name string) string {
	return a.origins[cmd.Flags().Lookup(name)]
}

func (a *app) clientOptions(cmd *cobra.Command, readOnly bool) client.Options {
	given := make(map[string]bool)
	for _, name := range []string{"network", "bootstrap", "listen", "mdns", "relay"} {
		// The file is for whoever holds the store; that another one holds it in another way is no contradiction.
		given[name] = cmd.Flags().Changed(name) && a.origin(cmd, name) != originFile
	}
	return client.Options{
		Given:    given,
		ReadOnly: readOnly,
		Note:     func(s string) { a.out.Note("%s", s) },
		Holder: holder.Options{
			Dir:     a.flags.store,
			Shape:   a.flags.shape(),
			Version: version(),
			Command: cmd.Name(),
			Logger:  a.log,
			OnFatal: a.fatal,
		},
	}
}

// fatal ends the process when the embedded store cannot go on.
func (a *app) fatal(err error) {
	p := api.ProblemOf(fmt.Errorf("the store %s failed: %w", a.flags.store, err))
	if before, _, found := strings.Cut(p.Detail, "; bounds: "); found || strings.Contains(p.Detail, "on-disk corruption") {
		// What the database says of it goes on for a page.
		before, _, _ = strings.Cut(before, " (1) ")
		p = api.Errorf(api.CodeVerification, "%s; the file is damaged: put a copy of the store in its place, or move the store away and fetch its feeds again", before)
	}
	a.out.Fail(p)
	os.Exit(int(p.Code))
}

// defaultStore is $XDG_DATA_HOME/p2pcore, else ~/.local/share/p2pcore.
func defaultStore() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "p2pcore"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the store: %w; give --store", err)
	}
	return filepath.Join(home, ".local", "share", "p2pcore"), nil
}

// patience is a context that ends when nothing has happened for --timeout. reason tells what is missing then.
type patience struct {
	cancel  context.CancelCauseFunc
	limit   time.Duration
	group   *lifecycle.Group
	stop    func() bool
	reason  string
	message string
}

// wait begins a wait for the network. It is used by one goroutine.
func (a *app) wait(ctx context.Context) (context.Context, *patience) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patience{cancel: cancel, limit: a.flags.timeout, group: a.group, reason: "no-peers", message: "no peer was found"}
	p.moved()
	return ctx, p
}

// moved says that something has arrived.
func (p *patience) moved() {
	if p.limit <= 0 {
		return
	}
	if p.stop != nil {
		p.stop()
	}
	p.stop = lifecycle.AfterFunc(p.group, p.limit, func() { p.cancel(errTimeout) })
}

// forever takes the bound away.
func (p *patience) forever() {
	if p.stop != nil {
		p.stop()
	}
	p.limit = 0
}

// waiting notes what a wait is for.
func (p *patience) waiting(reason, message string) { p.reason, p.message = reason, message }

// end ends the wait, and gives the error of a timeout its reason.
func (p *patience) end(err error) error {
	if p.stop != nil {
		p.stop()
	}
	p.cancel(nil)
	if !errors.Is(err, errTimeout) {
		return err
	}
	out := api.Errorf(api.CodeTimeout, "nothing came for %v: %s", p.limit, p.message)
	out.Reason = p.reason
	return out
}

var errTimeout = errors.New("timeout")
