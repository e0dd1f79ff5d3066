package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/node/api"
)

// someCores is the arguments of commands that take one feed or more.
func someCores(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("p2pcore %s lacks CORE", cmd.Name())
	}
	return nil
}

func (a *app) seedCommand() *cobra.Command {
	s := &seeding{app: a}
	cmd := &cobra.Command{
		Use:   "seed CORE…",
		Short: "Mirror feeds: download everything, announce and serve",
		Long: `seed downloads feeds, and what is appended to them, announces and serves them. A daemon goes on with that, also
after a restart, until p2pcore unseed; without one seed runs in the foreground until Ctrl-C, and the store remembers
the feeds for the next daemon. A feed that is written here is announced and served.`,
		Args: someCores,
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd, args) },
	}
	cmd.Flags().BoolVar(&s.until, "until-synced", false, "exit when all that is known of the feeds is here")
	s.key.add(cmd, "the encryption key of the feed is in `FILE`, - for standard input; a wrong one gives noise")
	return cmd
}

// seeding is one run of seed.
type seeding struct {
	app   *app
	until bool
	key   keyFile

	client *client.Client
	cores  []string // whole keys
	peers  []string // of the links
	told   map[string]bool
}

func (s *seeding) run(cmd *cobra.Command, args []string) error {
	a, ctx := s.app, cmd.Context()
	if s.key.path != "" && !s.key.ambient(a) && len(args) > 1 {
		return api.Errorf(api.CodeUsage, "--key-file is the key of one feed, not of %d", len(args))
	}
	for _, arg := range args {
		if err := checkCore(arg); err != nil {
			return err
		}
	}
	s.client, s.told = a.store(cmd, false), make(map[string]bool)
	daemon, err := s.client.Daemon(ctx)
	if err != nil {
		return err
	}
	failed, err := s.remember(ctx, args)
	if err != nil {
		return err
	}
	if len(s.cores) > 0 && (!daemon || s.until) {
		if err := s.follow(ctx, daemon); err != nil {
			return err
		}
	}
	if failed != nil {
		return api.Errorf(api.CodePartial, "%d of %d feeds are not seeded: %s", len(args)-len(s.cores), len(args), failed.Detail)
	}
	return nil
}

// remember puts the feeds on the store's list. If that fails for some of several feeds, the first failure is returned.
func (s *seeding) remember(ctx context.Context, args []string) (failed *api.Problem, err error) {
	for _, arg := range args {
		info, err := s.add(ctx, arg)
		switch {
		case err == nil:
			s.cores = append(s.cores, info.ID)
			if err := s.app.out.Object(info, info.ID); err != nil {
				return nil, err
			}
		case len(args) == 1 || ctx.Err() != nil:
			return nil, err
		default:
			p := s.app.problem(err)
			s.app.out.Note("%s: %s", shorten(arg), p.Detail)
			if failed == nil {
				failed = p
			}
		}
	}
	if len(s.cores) == 0 {
		return nil, failed
	}
	return failed, nil
}

func (s *seeding) add(ctx context.Context, arg string) (info api.CoreInfo, err error) {
	link, whole, err := api.ParseCore(arg)
	if err != nil {
		return info, err
	}
	core := arg
	if whole {
		core = link.Key.String()
	}
	request := jsonRequest(http.MethodPost, corePath(core, "/seed"), nil)
	request.Query = withPeers(url.Values{}, usable(s.app, link.Peers), s.app.flags.peers)
	if s.key.path != "" || link.Secret != "" { // who has no key mirrors an encrypted feed as it is
		if err := s.app.giveKey(ctx, s.client, core, link, &s.key); err != nil {
			return info, err
		}
	}
	if err := s.client.JSON(ctx, request, &info); err != nil {
		return info, err
	}
	s.peers = append(s.peers, request.Query["peer"]...)
	return info, nil
}

// usable leaves out the addresses of a link that cannot be read: they are no reason to fail.
func usable(a *app, peers []string) []string {
	var good []string
	for _, p := range peers {
		if _, err := api.ParsePeers([]string{p}); err != nil {
			a.out.Note("ignoring an address of the link: %v", err)
			continue
		}
		good = append(good, p)
	}
	return good
}

// follow seeds in the foreground, or waits until the feeds are synced.
func (s *seeding) follow(ctx context.Context, daemon bool) error {
	query := withPeers(url.Values{"core": s.cores}, s.peers)
	if s.until {
		query.Set("until", "synced")
		if s.app.flags.timeout == 0 {
			query.Set("strict", "1")
		}
	}
	ctx, wait := s.app.wait(ctx)
	if !s.until {
		wait.forever() // it serves, and waits for nothing
	}
	request := func() client.Request {
		return client.Request{Method: http.MethodGet, Path: "/seed", Query: query}
	}
	var done uint64
	err := wait.end(s.client.Events(ctx, request, func(e api.Event) (bool, error) {
		out := s.app.out
		switch e.Event {
		case "ready":
			if !daemon && !s.told[e.Core] {
				s.told[e.Core] = true
				out.Note("seeding %s until Ctrl-C", e.Shared.Link)
			}
		case "progress":
			if e.Done != done {
				done = e.Done
				wait.moved()
			}
			out.Show("blocks", e, false)
		case "waiting":
			wait.waiting(e.Reason, e.Message)
			if !e.Early {
				out.Waiting(e.Reason, e.Message)
			}
		case "synced":
			wait.moved()
			out.Note("%s: all %d blocks are here, %d of them fetched now", e.Core, e.Length, e.Fetched)
		case "failed":
			out.Note("%s: %s", e.Core, e.Problem.Detail)
		case "done":
			return true, nil
		}
		return false, nil
	}))
	if errors.Is(err, errInterrupted) && !s.until {
		return nil
	}
	return err
}

func (a *app) unseedCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unseed CORE…",
		Short: "Seed feeds no longer; what is stored of them stays",
		Args:  someCores,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if err := checkCore(arg); err != nil {
					return err
				}
			}
			c := a.store(cmd, true)
			return a.forEach(cmd.Context(), args, func(core string) error {
				var info api.CoreInfo
				if err := c.JSON(cmd.Context(), client.Request{Method: http.MethodDelete, Path: corePath(core, "/seed")}, &info); err != nil {
					return err
				}
				return a.out.Object(info, info.ID)
			})
		},
	}
}

// forEach does something with each of several feeds. That it fails for some of them is the error partial.
func (a *app) forEach(ctx context.Context, cores []string, do func(core string) error) error {
	failed := 0
	var first *api.Problem
	for _, core := range cores {
		err := do(core)
		switch {
		case err == nil:
			continue
		case len(cores) == 1 || ctx.Err() != nil:
			return err
		}
		p := a.problem(err)
		a.out.Note("%s: %s", shorten(core), p.Detail)
		if failed++; first == nil {
			first = p
		}
	}
	switch failed {
	case 0:
		return nil
	case len(cores):
		return first
	}
	return api.Errorf(api.CodePartial, "%d of %d feeds failed: %s", failed, len(cores), first.Detail)
}

func (a *app) syncCommand() *cobra.Command {
	s := &syncing{app: a}
	cmd := &cobra.Command{
		Use:   "sync CORE",
		Short: "Wait until all that is known of a feed is here",
		Long: `sync fetches what is missing and waits until all blocks that are known of are stored and verified, or
at least --length of them. It ends with exit code 20 if nobody is found who has the feed, and with 21 after --timeout.`,
		Args: exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.has = cmd.Flags().Changed("length")
			return s.run(cmd, args[0])
		},
	}
	addDecimal(cmd.Flags(), &s.length, "length", "", "wait for the first `N` blocks only")
	return cmd
}

// syncing is one run of sync.
type syncing struct {
	app    *app
	length uint64
	has    bool // length was given
}

// synced is the result of sync.
type synced struct {
	ID            string `json:"id"`
	Length        uint64 `json:"length"` // blocks that count
	BlocksFetched uint64 `json:"blocksFetched"`
	BlocksLocal   uint64 `json:"blocksLocal"` // stored before
}

func (s *syncing) run(cmd *cobra.Command, core string) error {
	a := s.app
	if err := checkCore(core); err != nil {
		return err
	}
	link, whole, err := api.ParseCore(core)
	if err != nil {
		return err
	}
	if whole {
		core = link.Key.String()
	}
	c := a.store(cmd, false)
	if err := c.Acquire(cmd.Context()); err != nil { // is no wait for the network
		return err
	}
	query := withPeers(url.Values{}, usable(a, link.Peers), a.flags.peers)
	if s.has {
		query.Set("length", strconv.FormatUint(s.length, 10))
	}
	if a.flags.timeout == 0 {
		query.Set("strict", "1")
	}
	ctx, wait := a.wait(cmd.Context())
	last := uint64(0)
	return wait.end(c.Events(ctx, func() client.Request {
		return client.Request{Method: http.MethodGet, Path: corePath(core, "/sync"), Query: query}
	}, func(e api.Event) (bool, error) {
		switch e.Event {
		case "progress":
			if e.Done != last {
				last = e.Done
				wait.moved()
			}
			a.out.Show("blocks", e, false)
		case "waiting":
			wait.waiting(e.Reason, e.Message)
			if !e.Early {
				a.out.Waiting(e.Reason, e.Message)
			}
		case "done":
			a.out.Done()
			r := synced{ID: e.Core, Length: e.Length, BlocksFetched: e.Fetched, BlocksLocal: e.Local}
			return true, a.out.Object(r, fmt.Sprintf("%d blocks are here, %d of them fetched now", e.Length, e.Fetched))
		}
		return false, nil
	}))
}
