package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) shareCommand() *cobra.Command {
	var name, chunk string
	var once, keyInLink bool
	var secret encryption
	cmd := &cobra.Command{
		Use:   "share [PATH|-]",
		Short: "Put a file online under a new key",
		Long: `share imports a file, or standard input until its end, into a new feed, prints a link, and serves
the feed until Ctrl-C. p2pcore get LINK fetches it. If a daemon holds the store, it goes on serving the feed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && isTerminal(a.stdin) {
				return errors.New("p2pcore share lacks the file; - is standard input")
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(chunk)
			if err != nil {
				return api.Errorf(api.CodeUsage, "--chunk: %v", err)
			}
			if keyInLink && !secret.on {
				return api.Errorf(api.CodeUsage, "--key-in-link puts the encryption key in the link; add --encrypt")
			}
			path := "-"
			if len(args) == 1 {
				path = args[0]
			}
			if path == "-" && secret.key.path == "-" {
				return api.Errorf(api.CodeUsage, "standard input cannot be both the content and the --key-file")
			}
			body, err := secret.of(a, api.NewCore{})
			if err != nil {
				return err
			}
			explicit := cmd.Flags().Changed("name")
			if explicit {
				if err := checkFileName(name); err != nil {
					return api.Errorf(api.CodeUsage, "--name: %v", err)
				}
			} else if path != "-" {
				name = filepath.Base(path)
				if err := checkFileName(name); err != nil {
					a.out.Note("the link will not carry a name, since get would refuse it: %v; --name gives one", err)
					name = ""
				}
			}
			s := &sharing{app: a, name: name, explicit: explicit, once: once, body: body, keyInLink: keyInLink}
			return s.run(cmd, path, splitting{chunk: size})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME` of the file for others, and of the feed in the store; default the file's own")
	cmd.Flags().StringVar(&chunk, "chunk", "64KiB", "`SIZE` of the blocks")
	secret.add(cmd)
	cmd.Flags().BoolVar(&keyInLink, "key-in-link", false, "with --encrypt: everybody who sees the link can read")
	cmd.Flags().BoolVar(&once, "once", false, "exit when the first peer has everything")
	return cmd
}

// sharing is one run of share.
type sharing struct {
	app      *app
	name     string
	explicit bool // the name was given
	once     bool
	body     api.NewCore // of the request that makes the feed

	keyInLink bool
	secret    string // encryption key for the link
	linked    bool   // the link is printed

	handedOver bool // a daemon serves the feed

	wait *patience // for the first peer that has everything; nil: for nobody
	most uint64    // blocks that a peer had so far
}

func (s *sharing) run(cmd *cobra.Command, path string, split splitting) error {
	a, ctx := s.app, cmd.Context()
	in, err := a.openInput(path)
	if err != nil {
		return err
	}
	defer in.Close()
	c := a.store(cmd, false)
	nameable := api.CheckName(s.name) == nil
	if nameable {
		taken, err := s.taken(cmd, c)
		if err != nil {
			return err
		}
		if taken && s.explicit {
			return api.Errorf(api.CodeError, "the store has a feed %q already; choose another --name", s.name)
		}
		nameable = !taken
	}
	info, err := newCore(ctx, c, s.body)
	if err != nil {
		return err
	}
	if s.keyInLink {
		var key api.CoreKey
		if err := c.JSON(ctx, client.Request{Method: http.MethodGet, Path: corePath(info.ID, "/key")}, &key); err != nil {
			return err
		}
		s.secret = key.EncryptionKey
		a.out.Note("the link carries the encryption key: whoever sees it can read, as long as the feed exists")
	}
	im := &importer{app: a, client: c, core: info.ID, split: split, total: uint64(in.size)}
	if err := im.add(ctx, in); err != nil {
		return err
	}
	a.out.Done()
	if nameable {
		err := c.JSON(ctx, jsonRequest(http.MethodPut, corePath(info.ID, "/name"), api.NewCore{Name: s.name}), &info)
		if err != nil {
			return err
		}
	}
	if s.once { // else it serves, and waits for nothing
		ctx, s.wait = a.wait(ctx)
		s.wait.waiting("no-peers", "no peer has fetched everything")
	}
	daemon, err := c.Daemon(ctx)
	if err != nil {
		return err
	}
	if daemon { // which goes on when we have ended
		request := jsonRequest(http.MethodPost, corePath(info.ID, "/seed"), nil)
		request.Query = withPeers(url.Values{}, a.flags.peers)
		if err := c.JSON(ctx, request, &info); err != nil {
			return err
		}
		s.handedOver = !s.once
	}
	err = c.Events(ctx, func() client.Request {
		query := withPeers(url.Values{"name": {s.name}}, a.flags.peers)
		return client.Request{Method: http.MethodGet, Path: corePath(info.ID, "/announce"), Query: query}
	}, s.event)
	if s.wait != nil {
		err = s.wait.end(err)
	}
	if errors.Is(err, errInterrupted) && s.linked && !s.once {
		return nil
	}
	return err
}

// taken tells whether another feed has the name.
func (s *sharing) taken(cmd *cobra.Command, c *client.Client) (bool, error) {
	var info api.CoreInfo
	err := c.JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: corePath(s.name, "")}, &info)
	var p *api.Problem
	if errors.As(err, &p) && p.Code == api.CodeUnknownKey {
		return false, nil
	}
	return err == nil && info.Name == s.name, err
}

func (s *sharing) event(e api.Event) (done bool, err error) {
	out := s.app.out
	switch e.Event {
	case "ready":
		if s.linked {
			out.Note("this node's addresses have changed: %s", strings.Join(e.Shared.Addrs, " "))
			return false, nil
		}
		s.linked = true
		if err := s.addSecret(e.Shared); err != nil {
			return false, err
		}
		if err := out.Object(e.Shared, e.Shared.Link); err != nil {
			return false, err
		}
		if s.body.Encrypt && !s.keyInLink {
			out.Note("the blocks are encrypted; p2pcore key %s prints the key, which readers need too", e.Shared.ID)
		}
		if s.handedOver {
			out.Note("the daemon serves %s in %d blocks, until p2pcore unseed %s; fetch it with: p2pcore get 'LINK'", output.Bytes(e.Shared.ByteLength), e.Shared.Length, e.Shared.ID)
			return true, nil
		}
		if !s.once {
			out.Note("serving %s in %d blocks until Ctrl-C; fetch it with: p2pcore get 'LINK'", output.Bytes(e.Shared.ByteLength), e.Shared.Length)
		}
	case "waiting":
		if s.wait != nil {
			s.wait.waiting(e.Reason, e.Message)
		}
		out.Waiting(e.Reason, e.Message)
	case "progress":
		if s.wait != nil && e.Done > s.most {
			s.most = e.Done
			s.wait.moved()
		}
		out.Show("blocks at the furthest peer", e, false)
	case "complete":
		out.Note("peer %s has everything", e.Peer)
		return s.once, nil
	}
	return false, nil
}

// addSecret puts the encryption key in the link, if that is wanted.
func (s *sharing) addSecret(shared *api.Shared) error {
	if s.secret == "" {
		return nil
	}
	link, err := api.ParseLink(shared.Link)
	if err != nil {
		return err
	}
	link.Secret = s.secret
	shared.Link = link.String()
	return nil
}

// checkFileName returns an error if name cannot name a file: get would refuse it.
func checkFileName(name string) error {
	switch {
	case name == "":
		return errors.New("the file's name is empty")
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("the file's name has a slash: %q", name)
	case name[0] == '.':
		return fmt.Errorf("the file's name begins with a dot: %q", name)
	case len(name) > 255:
		return errors.New("the file's name is longer than 255 bytes")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the file's name holds control characters")
	}
	return nil
}
