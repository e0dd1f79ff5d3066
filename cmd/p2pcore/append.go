package main

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/node/api"
)

func (a *app) appendCommand() *cobra.Command {
	var split splitting
	var chunk string
	cmd := &cobra.Command{
		Use:   "append CORE [FILE…|-]",
		Short: "Append files, or standard input, to a feed",
		Long: `append adds blocks to a writable feed and prints its new length. Input is cut into blocks of
--chunk bytes; with --lines each line is a block (with its line end, so that cat gives
back the same bytes); with --whole each file is one.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("p2pcore append lacks CORE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if split.lines && split.whole || (split.lines || split.whole) && cmd.Flags().Changed("chunk") {
				return api.Errorf(api.CodeUsage, "--lines, --whole and --chunk exclude each other")
			}
			var err error
			if split.chunk, err = parseSize(chunk); err != nil {
				return api.Errorf(api.CodeUsage, "--chunk: %v", err)
			}
			if err := checkCore(args[0]); err != nil {
				return err
			}
			files := args[1:]
			if len(files) == 0 {
				files = []string{"-"}
			}
			return a.append(cmd, args[0], files, split)
		},
	}
	cmd.Flags().BoolVar(&split.lines, "lines", false, "one block per line")
	cmd.Flags().BoolVar(&split.whole, "whole", false, "one block per file")
	cmd.Flags().StringVar(&chunk, "chunk", "64KiB", "`SIZE` of the blocks")
	return cmd
}

func (a *app) append(cmd *cobra.Command, core string, files []string, split splitting) error {
	ctx := cmd.Context()
	// All files are opened first: one that cannot be read leaves the feed as it was.
	inputs := make([]*input, len(files))
	var total int64
	for i, path := range files {
		in, err := a.openInput(path)
		if err != nil {
			return err
		}
		defer in.Close()
		inputs[i] = in
		total += in.size
	}
	c := a.store(cmd, false)
	var info api.CoreInfo
	if err := c.JSON(ctx, client.Request{Method: http.MethodGet, Path: corePath(core, "")}, &info); err != nil {
		return err
	}
	if !info.Writable {
		return api.Errorf(api.CodeNotWritable, "feed %s is not writable here: its secret key is in the store that made it", info.ID)
	}
	im := &importer{app: a, client: c, core: info.ID, base: info.Length, split: split, total: uint64(total)}
	for n, in := range inputs {
		err := im.add(ctx, in)
		if err == nil {
			continue
		}
		p := a.problem(err)
		if n > 0 && p.Code == api.CodeError {
			return api.Errorf(api.CodePartial, "%d of %d files appended: %s", n, len(inputs), p.Detail)
		}
		return err
	}
	a.out.Done()
	return a.out.Object(im.result, strconv.FormatUint(im.result.Length, 10))
}
