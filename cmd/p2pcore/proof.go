package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

// blockWanted is a block that block and prove fetch.
type blockWanted struct {
	app   *app
	core  string
	index uint64
	link  api.Link
	key   keyFile
}

// parse reads the arguments CORE and INDEX.
func (b *blockWanted) parse(args []string) error {
	var err error
	if err = checkCore(args[0]); err != nil {
		return err
	}
	if b.index, err = strconv.ParseUint(args[1], 10, 53); err != nil {
		return api.Errorf(api.CodeUsage, "%q is no block index", shorten(args[1]))
	}
	link, whole, err := api.ParseCore(args[0])
	if err != nil {
		return err
	}
	b.core, b.link = args[0], link
	if whole {
		b.core = link.Key.String()
	}
	return nil
}

// fetch returns the block, or the proof of it if accept says so, and waits for it.
func (b *blockWanted) fetch(cmd *cobra.Command, accept string) ([]byte, error) {
	a := b.app
	c := a.store(cmd, b.link.Key == feed.Key{})
	if err := c.Acquire(cmd.Context()); err != nil { // is no wait for the network
		return nil, err
	}
	if accept != api.ContentProof { // which holds the block as it is stored
		if err := a.giveKey(cmd.Context(), c, b.core, b.link, &b.key); err != nil {
			return nil, err
		}
	}
	ctx, wait := a.wait(cmd.Context())
	wait.waiting("no-data", fmt.Sprintf("nobody has sent block %d", b.index))
	resp, err := c.Do(ctx, client.Request{
		Method: http.MethodGet,
		Path:   corePath(b.core, "/blocks/"+strconv.FormatUint(b.index, 10)),
		Query:  withPeers(url.Values{}, usable(a, b.link.Peers), a.flags.peers),
		Header: http.Header{"Accept": {accept}},
	})
	if err != nil {
		return nil, wait.end(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return body, wait.end(err)
}

func (a *app) blockCommand() *cobra.Command {
	b := &blockWanted{app: a}
	var proofFile string
	var force bool
	cmd := &cobra.Command{
		Use:   "block CORE INDEX",
		Short: "Print one block, and make a proof of it",
		Long: `block prints the bytes of one block, and fetches it if it is missing. --proof writes a proof of it too, which
p2pcore check verifies without a store and without a network.`,
		Args: exactArgs("CORE", "INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.parse(args); err != nil {
				return err
			}
			block, err := b.fetch(cmd, "application/octet-stream")
			if err != nil {
				return err
			}
			if proofFile != "" {
				proof, err := b.fetch(cmd, api.ContentProof)
				if err != nil {
					return err
				}
				if err := writeFile(proofFile, proof, force); err != nil {
					return err
				}
			}
			if a.out.JSON {
				return a.out.Object(api.NewBlockLine(b.index, block), "")
			}
			_, err = a.stdout.Write(block)
			return err
		},
	}
	cmd.Flags().StringVar(&proofFile, "proof", "", "write a proof of the block to `FILE`")
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	b.key.add(cmd, "the encryption key of the feed is in `FILE`, - for standard input; a wrong one gives noise")
	return cmd
}

// proven is the result of prove.
type proven struct {
	Key   string `json:"key"`
	ID    string `json:"id"`
	Index uint64 `json:"index"`
	Fork  uint64 `json:"fork"`
	// Length and ByteLength are those of the head that is signed.
	Length     uint64 `json:"length"`
	ByteLength uint64 `json:"byteLength"`
	File       string `json:"file,omitempty"`
	Proof      []byte `json:"proof,omitempty"` // base64; without --output
}

func (a *app) proveCommand() *cobra.Command {
	b := &blockWanted{app: a}
	var file string
	var force bool
	cmd := &cobra.Command{
		Use:   "prove CORE INDEX",
		Short: "Make a proof of a block that stands alone",
		Long: `prove writes a proof that the feed's writer has signed this block, block and signature included, to -o or to
standard output. Whoever has it and the feed's key verifies it with p2pcore check, without a store and without a network;
JavaScript's hypercore does with verifyFullyRemote.`,
		Args: exactArgs("CORE", "INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.parse(args); err != nil {
				return err
			}
			toStdout := (file == "" || file == "-") && !a.out.JSON
			if toStdout && isTerminal(a.stdout) {
				return api.Errorf(api.CodeUsage, "a proof is binary: give -o FILE, or send it to a pipe")
			}
			proof, err := b.fetch(cmd, api.ContentProof)
			if err != nil {
				return err
			}
			checked, err := api.Check(proof, nil)
			if err != nil {
				return fmt.Errorf("the proof that was made is wrong: %w", err)
			}
			if toStdout {
				_, err := a.stdout.Write(proof)
				return err
			}
			r := proven{Key: checked.Key, ID: checked.ID, Index: b.index, Fork: checked.Fork, Length: checked.Length, ByteLength: checked.ByteLength}
			if file == "" || file == "-" {
				r.Proof = proof
			} else if err := writeFile(file, proof, force); err != nil {
				return err
			} else {
				r.File = file
			}
			return a.out.Object(r, fmt.Sprintf("%s: proof of block %d of %s at length %d, %s", file, r.Index, r.ID, r.Length, output.Bytes(uint64(len(proof)))))
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to `FILE`; - is standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	return cmd
}

// writeFile writes a new file; it replaces an existing one only if force is set.
func writeFile(path string, content []byte, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, 0o666)
	if errors.Is(err, os.ErrExist) {
		return api.Errorf(api.CodeError, "%s exists already; choose another name, or replace it with --force", path)
	}
	if err != nil {
		return writeError(path, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return writeError(path, err)
	}
	return nil
}

func (a *app) checkCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "check PROOF",
		Short: "Verify a proof that prove has made, offline",
		Long: `check verifies the proof in a file, - for standard input, and prints what it proves. It needs no store and no
network. Without --key it takes the key that the proof names: then look whether that is the feed you mean.`,
		Args: exactArgs("PROOF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var key *feed.Key
			if cmd.Flags().Changed("key") {
				link, whole, err := api.ParseCore(text)
				if err == nil && !whole {
					_, err = feed.ParseKey(text)
				}
				if err != nil {
					return err
				}
				key = &link.Key
			}
			in, err := a.openInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			proof, err := api.ReadProof(in.r)
			if err != nil {
				return readError(in.name, err)
			}
			checked, err := api.Check(proof, key)
			if err != nil {
				return err
			}
			return a.out.Object(checked, checkedText(checked))
		},
	}
	cmd.Flags().StringVar(&text, "key", "", "the feed's `KEY`, or a link with it")
	return cmd
}

func checkedText(c api.Checked) string {
	what := "its head"
	if c.Block != nil {
		what = fmt.Sprintf("block %d, %s", c.Block.Index, output.Bytes(uint64(c.Block.Length)))
	}
	whose := "feed " + c.ID
	if !c.KeyGiven {
		whose += ", which the proof itself names"
	}
	return fmt.Sprintf("ok: %s of %s, signed at length %d of fork %d", what, whose, c.Length, c.Fork)
}
