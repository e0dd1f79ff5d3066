package mesh

import (
	"context"
	"errors"
	"fmt"
)

// Paired tells where two nodes disagree on the one replication stream between them, or where one has more streams than
// peers.
func (m *Mesh) Paired(ctx context.Context) error {
	nodes := make(map[string]*Node)
	peers := make(map[string]map[string]bool) // node's peer ID, peer's peer ID
	for _, n := range m.Nodes() {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		list, err := n.Peers(ctx)
		if err != nil {
			return err
		}
		nodes[st.PeerID] = n
		with := make(map[string]bool)
		for _, p := range list {
			if p.Replicating {
				with[p.PeerID] = true
			}
		}
		if st.Streams != len(with) {
			return fmt.Errorf("%s has %d streams with %d peers", n.Name, st.Streams, len(with))
		}
		peers[st.PeerID] = with
	}
	var errs []error
	for id, with := range peers {
		for other := range with {
			if peers[other] != nil && !peers[other][id] {
				errs = append(errs, fmt.Errorf("%s has a stream with %s, which has none", nodes[id].Name, nodes[other].Name))
			}
		}
	}
	return errors.Join(errs...)
}

// Usage is what each node takes, by its name.
func (m *Mesh) Usage(ctx context.Context) (map[string]Usage, error) {
	all := make(map[string]Usage)
	for _, n := range m.Nodes() {
		u, err := n.Usage(ctx)
		if err != nil {
			return nil, err
		}
		all[n.Name] = u
	}
	return all, nil
}
