package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

// keyDigits is how many digits of a key appear in the names of files.
const keyDigits = 8

// fetched is the result of get.
type fetched struct {
	Key           string `json:"key"`
	ID            string `json:"id"`
	Length        uint64 `json:"length"`     // blocks of the feed that count
	ByteLength    uint64 `json:"byteLength"` // bytes written
	File          string `json:"file"`
	BlocksFetched uint64 `json:"blocksFetched"`
	BlocksLocal   uint64 `json:"blocksLocal"` // stored before
	MS            int64  `json:"ms"`
}

func (a *app) getCommand() *cobra.Command {
	g := &getting{app: a}
	var span string
	cmd := &cobra.Command{
		Use:   "get LINK",
		Short: "Fetch a shared file and verify every block",
		Long: `get fetches the content behind a link or a key. It is written to -o, else to the name in the
link, else to a file named after the key, and never over an existing file. A get that was
interrupted goes on where it stopped when it is run again.`,
		Args: exactArgs("LINK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("range") {
				r, err := api.ParseRange(span)
				if err != nil {
					return err
				}
				g.span, g.spanText = &r, span
			}
			return g.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVarP(&g.output, "output", "o", "", "write to `FILE`; - is standard output")
	cmd.Flags().StringVar(&span, "range", "", "only the bytes `A:B`, B not included; fetches no more than that needs")
	cmd.Flags().BoolVar(&g.force, "force", false, "replace an existing file")
	g.key.add(cmd, "the encryption key of the feed is in `FILE`, - for standard input; a wrong one gives noise")
	return cmd
}

// getting is one run of get.
type getting struct {
	app      *app
	output   string
	force    bool
	key      keyFile
	span     *feed.Range // bytes
	spanText string

	client  *client.Client
	link    api.Link
	file    string // "-" is stdout
	special bool   // file is no regular file
	started time.Time
	done    api.Event
}

func (g *getting) run(cmd *cobra.Command, arg string) error {
	g.started = time.Now()
	g.client = g.app.store(cmd, false)
	ctx := cmd.Context()
	if err := g.resolve(ctx, arg); err != nil {
		return err
	}
	if err := g.chooseFile(); err != nil {
		return err
	}
	if err := g.app.giveKey(ctx, g.client, g.link.Key.String(), g.link, &g.key); err != nil {
		return err
	}
	if err := g.fetch(ctx); err != nil {
		return err
	}
	n, err := g.write(ctx)
	if err != nil {
		return err
	}
	return g.report(n)
}

// resolve reads LINK: a link or a key as it stands, else what the store knows by that name.
func (g *getting) resolve(ctx context.Context, arg string) error {
	if err := checkCore(arg); err != nil {
		return err
	}
	link, ok, err := api.ParseCore(arg)
	if err != nil {
		return err
	}
	g.link = link
	if ok {
		// Hints in a link that cannot be read are no reason to fail.
		good := g.link.Peers[:0]
		for _, p := range g.link.Peers {
			if _, err := api.ParsePeers([]string{p}); err != nil {
				g.app.out.Note("ignoring an address of the link: %v", err)
				continue
			}
			good = append(good, p)
		}
		g.link.Peers = good
		return nil
	}
	var info api.CoreInfo
	if err := g.client.JSON(ctx, client.Request{Method: http.MethodGet, Path: corePath(arg, "")}, &info); err != nil {
		return err
	}
	g.link.Name = info.Name
	g.link.Key, err = feed.ParseKey(info.Key)
	return err
}

// chooseFile finds the name of the result, and refuses one that exists before anything is fetched.
func (g *getting) chooseFile() error {
	name, err := resultName(g.link)
	switch {
	case g.output == "-":
		g.file = "-"
		return nil
	case g.output != "":
		g.file = g.output
		if info, statErr := os.Stat(g.output); statErr == nil && info.IsDir() {
			if err != nil {
				return err
			}
			g.file = filepath.Join(g.output, name)
		}
	case err != nil:
		return err
	default:
		g.file = name
	}
	if info, err := os.Stat(g.file); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		g.special = true // a device or a pipe is written to, never replaced
		return nil
	}
	if _, err := os.Lstat(g.file); err == nil && !g.force {
		return existsError(g.file)
	}
	if info, err := os.Stat(filepath.Dir(g.file)); err != nil || !info.IsDir() {
		return api.Errorf(api.CodeError, "cannot write %s: there is no directory %s", g.file, filepath.Dir(g.file))
	}
	return nil
}

func existsError(file string) error {
	return api.Errorf(api.CodeError, "%s exists already; choose another name with -o, or replace it with --force", file)
}

// resultName is the last path element of the link's name, else KEY8.bin.
func resultName(l api.Link) (string, error) {
	if l.Name == "" {
		return l.Key.String()[:keyDigits] + ".bin", nil
	}
	name := l.Name
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	if err := checkFileName(name); err != nil {
		return "", api.Errorf(api.CodeError, "the link's name %q is refused: %v; choose one with -o FILE", shorten(l.Name), err)
	}
	return name, nil
}

// fetch brings all blocks that are needed into the store.
func (g *getting) fetch(ctx context.Context) error {
	if err := g.client.Acquire(ctx); err != nil { // is no wait for the network
		return err
	}
	ctx, wait := g.app.wait(ctx)
	query := withPeers(url.Values{}, g.link.Peers, g.app.flags.peers)
	if g.link.Length != nil {
		query.Set("length", strconv.FormatUint(*g.link.Length, 10))
	}
	if g.spanText != "" {
		query.Set("bytes", g.spanText)
	}
	request := func() client.Request {
		return client.Request{Method: http.MethodGet, Path: corePath(g.link.Key.String(), "/sync"), Query: query}
	}
	last := uint64(0)
	return wait.end(g.client.Events(ctx, request, func(e api.Event) (bool, error) {
		out := g.app.out
		switch e.Event {
		case "progress":
			if e.Done != last {
				last = e.Done
				wait.moved()
			}
			out.Show("blocks", e, false)
		case "head":
			wait.moved()
			if !e.Exact {
				out.Note("fetching %d blocks, the longest version found now; it may not be all, the link did not say", e.Length)
			}
		case "waiting":
			wait.waiting(e.Reason, e.Message)
			if !e.Early {
				out.Waiting(e.Reason, e.Message)
			}
		case "done":
			g.done = e
			return true, nil
		}
		return false, nil
	}))
}

// write puts the content where it belongs and returns its size.
func (g *getting) write(ctx context.Context) (uint64, error) {
	g.app.out.Done()
	if g.file == "-" {
		return g.copy(ctx, g.app.stdout)
	}
	if g.special {
		f, err := os.OpenFile(g.file, os.O_WRONLY, 0)
		if err != nil {
			return 0, writeError(g.file, err)
		}
		n, err := g.copy(ctx, f)
		return n, errors.Join(err, f.Close())
	}
	part := partName(g.file, g.link.Key)
	f, err := openPart(part)
	if err != nil {
		return 0, err
	}
	n, err := g.copy(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = g.publish(part)
	}
	if err != nil {
		os.Remove(part)
	}
	return n, errors.Join(err, f.Close()) // what it holds is on the disk
}

// writeError says what could not be written, without the system call.
func writeError(path string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return api.Errorf(api.CodeDiskFull, "cannot write %s: %v; free some space there and run the command again, what is fetched stays in the store", path, err)
	}
	return api.Errorf(api.CodeError, "cannot write %s: %v", path, err)
}

// publish gives the complete file its name.
func (g *getting) publish(part string) error {
	if g.force {
		return os.Rename(part, g.file)
	}
	// Unlike a rename, a link fails if the name is taken meanwhile.
	err := os.Link(part, g.file)
	switch {
	case err == nil:
		return os.Remove(part)
	case errors.Is(err, os.ErrExist):
		return existsError(g.file)
	}
	// The filesystem has no links.
	if _, err := os.Lstat(g.file); err == nil {
		return existsError(g.file)
	}
	return os.Rename(part, g.file)
}

// copy writes the content from the store.
func (g *getting) copy(ctx context.Context, w io.Writer) (written uint64, err error) {
	start, end := uint64(0), uint64(0)
	if g.span != nil {
		start, end = g.span.Start, g.span.End
	}
	version := ""
	for {
		var header http.Header
		if version != "" {
			header = http.Header{"If-Match": {version}} // the rest of another version does not fit what is written
		}
		query := url.Values{"length": {strconv.FormatUint(g.done.Length, 10)}, "local": {"1"}}
		query.Set("from", strconv.FormatUint(start+written, 10))
		if g.span != nil {
			query.Set("to", strconv.FormatUint(end, 10))
		}
		resp, err := g.client.Do(ctx, client.Request{Method: http.MethodGet, Path: corePath(g.link.Key.String(), "/bytes"), Query: query, Header: header})
		if err != nil {
			return written, err
		}
		version = resp.Header.Get("ETag")
		sink := &sink{w: w}
		n, err := io.CopyBuffer(struct{ io.Writer }{sink}, struct{ io.Reader }{resp.Body}, make([]byte, 1<<20))
		resp.Body.Close()
		written += uint64(n)
		switch {
		case err == nil:
			return written, nil
		case sink.err != nil:
			return written, writeError(g.file, sink.err)
		case ctx.Err() != nil:
			return written, context.Cause(ctx)
		case !g.client.Lost(ctx, err):
			return written, err
		}
	}
}

// sink tells errors of the file from errors of the store.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.err = err
	return n, err
}

func (g *getting) report(written uint64) error {
	result := fetched{
		Key:           g.link.Key.Hex(),
		ID:            g.link.Key.String(),
		Length:        g.done.Length,
		ByteLength:    written,
		File:          g.file,
		BlocksFetched: g.done.Fetched,
		BlocksLocal:   g.done.Local,
		MS:            time.Since(g.started).Milliseconds(),
	}
	text := fmt.Sprintf("%s: %s, %d blocks fetched, %d were here, %.1f s", g.file, output.Bytes(written),
		result.BlocksFetched, result.BlocksLocal, time.Since(g.started).Seconds())
	report := g.app.out.Object
	if g.file == "-" {
		text = "stdout" + strings.TrimPrefix(text, "-")
		report = g.app.out.ObjectAside
	}
	if err := report(result, text); err != nil {
		return err
	}
	if g.span != nil && g.pastEnd(written) {
		return api.Errorf(api.CodePartial, "--range %s goes past the end of the content; %d bytes were there", g.spanText, written)
	}
	return nil
}

// pastEnd tells whether fewer bytes came than the range names. A range without an end must begin within the
// content, or right behind it.
func (g *getting) pastEnd(written uint64) bool {
	if strings.HasSuffix(g.spanText, ":") {
		return written == 0 && g.span.Start > 0 && g.done.ByteLength < g.span.Start
	}
	return written < g.span.End-g.span.Start
}
