package holder

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/node"
)

// bootstrap serves a private network until ctx ends. serving is called with the addresses.
func (h *Holder) bootstrap(ctx context.Context, serving func(peer.ID, []string)) error {
	opts, missing, err := h.nodeOptions()
	if err != nil {
		return err
	}
	// A bootstrap peer enters through others if they are known now; it waits for none.
	for _, path := range missing {
		h.opts.Logger.Warn("the bootstrap file does not exist; serving without it", "file", path)
	}
	b, err := node.StartBootstrap(ctx, node.BootstrapOptions{Network: h.opts.Shape.Network, Options: opts})
	if err != nil {
		return err
	}
	var addrs []string
	for _, a := range b.Addrs() {
		addrs = append(addrs, a.String())
	}
	serving(b.ID(), addrs)
	<-ctx.Done()
	if err := b.Close(); err != nil {
		return err
	}
	return ctx.Err()
}
