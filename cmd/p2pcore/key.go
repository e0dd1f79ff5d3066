package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

// maxKeyFileBytes bounds a key file: a key of 64 digits and a lot of white space.
const maxKeyFileBytes = 4096

// keyFile is the flag --key-file.
type keyFile struct {
	path string
	flag *pflag.Flag
}

func (k *keyFile) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&k.path, "key-file", "", usage)
	k.flag = cmd.Flags().Lookup("key-file")
}

// ambient tells a key file of the environment or of the configuration, which is for whatever needs one, from one that
// this command was given.
func (k *keyFile) ambient(a *app) bool {
	return k.path != "" && k.flag != nil && a.origins[k.flag] != originFlag
}

// read returns the encryption key in the file, in z-base-32; empty if there is no file. The key itself
// appears in no message.
func (k *keyFile) read(a *app) (string, error) {
	if k.path == "" {
		return "", nil
	}
	in, err := a.openInput(k.path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in.r, maxKeyFileBytes))
	if err != nil {
		return "", readError(in.name, err)
	}
	key, err := feed.ParseEncryptionKey(strings.TrimSpace(string(b)))
	if err != nil {
		return "", api.Errorf(api.CodeUsage, "--key-file: %s holds no encryption key: 52 digits of z-base-32 or 64 of hexadecimal, and nothing else", in.name)
	}
	if info, err := os.Stat(k.path); k.path != "-" && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.out.Note("others can read the key in %s; chmod 600 keeps it to yourself", k.path)
	}
	return key.Text(), nil
}

// encryption is the flags of commands that make a feed.
type encryption struct {
	on  bool
	key keyFile
}

func (e *encryption) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&e.on, "encrypt", false, "encrypt the blocks; only who has the key too (p2pcore key) can read them")
	e.key.add(cmd, "with --encrypt: the key in `FILE`, - for standard input, instead of one of the store's own")
}

// of completes the body of a request that makes a feed.
func (e *encryption) of(a *app, body api.NewCore) (api.NewCore, error) {
	if !e.on {
		if e.key.path != "" && !e.key.ambient(a) {
			return body, api.Errorf(api.CodeUsage, "--key-file says which key to encrypt with; add --encrypt")
		}
		return body, nil
	}
	var err error
	body.Encrypt = true
	body.EncryptionKey, err = e.key.read(a)
	return body, err
}

// giveKey stores the encryption key of somebody's feed, and makes sure that there is one if the link says that
// the feed is encrypted: no key is an error now and not noise later.
//
// A key file that the command was given counts for sure. The key in a link is its maker's word: it is taken
// only where nothing is lost by it. A key file of the environment is for what says that it is encrypted.
func (a *app) giveKey(ctx context.Context, c *client.Client, core string, link api.Link, file *keyFile) error {
	if file.path != "" && !file.ambient(a) {
		key, err := file.read(a)
		if err != nil {
			return err
		}
		return putKey(ctx, c, core, api.CoreKey{EncryptionKey: key, Replace: true})
	}
	if !link.Encrypted {
		return nil
	}
	var stored api.CoreKey
	err := c.JSON(ctx, client.Request{Method: http.MethodGet, Path: corePath(core, "/key")}, &stored)
	var p *api.Problem
	missing := errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Code == api.CodeUnknownKey)
	if err != nil && !missing {
		return err
	}
	key := link.Secret
	if key == "" && missing {
		if key, err = file.read(a); err != nil {
			return err
		}
	}
	switch {
	case key != "":
		err := putKey(ctx, c, core, api.CoreKey{EncryptionKey: key})
		if errors.As(err, &p) && p.Status == http.StatusConflict {
			a.out.Note("the key in the link is not used: %s", p.Detail)
			return nil
		}
		return err
	case missing:
		return api.Errorf(api.CodeError, "the feed is encrypted and its key is not here; ask who shared it for the output of p2pcore key, and give it with --key-file FILE")
	}
	return nil
}

func putKey(ctx context.Context, c *client.Client, core string, key api.CoreKey) error {
	var info api.CoreInfo
	return c.JSON(ctx, jsonRequest(http.MethodPut, corePath(core, "/key"), key), &info)
}

func (a *app) keyCommand() *cobra.Command {
	var forget bool
	cmd := &cobra.Command{
		Use:   "key CORE",
		Short: "Print the encryption key of a feed",
		Long: `key prints the key that decrypts the blocks of a feed. Give it, over a channel that you trust, to
those who may read: they save it in a file and pass that with --key-file. It is not the
feed's key, which is no secret to those who replicate the feed.`,
		Args: exactArgs("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCore(args[0]); err != nil {
				return err
			}
			if forget {
				var info api.CoreInfo
				if err := a.store(cmd, false).JSON(cmd.Context(), client.Request{Method: http.MethodDelete, Path: corePath(args[0], "/key")}, &info); err != nil {
					return err
				}
				return a.out.Object(info, info.ID)
			}
			var key api.CoreKey
			if err := a.store(cmd, true).JSON(cmd.Context(), client.Request{Method: http.MethodGet, Path: corePath(args[0], "/key")}, &key); err != nil {
				return err
			}
			return a.out.Object(key, key.EncryptionKey)
		},
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "forget the key of somebody's feed instead: its blocks are read as they are stored")
	return cmd
}
