package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// getStatus describes the process and its node; with brief=1 the process alone, which costs nothing.
func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	st := s.cfg.Status
	st.Ready = s.ready.Load()
	st.Uptime = int64(time.Since(s.started).Seconds())
	// In JSON what may hold several is a list, also of none.
	st.Shape.Bootstrap, st.Shape.Listen = append([]string{}, st.Shape.Bootstrap...), append([]string{}, st.Shape.Listen...)
	if r.URL.Query().Get("brief") == "1" {
		return writeJSON(w, http.StatusOK, st)
	}
	if err := s.seeds.load(r.Context()); err != nil {
		return err
	}
	st.Seeding = len(s.seeds.keys())
	if s.cfg.Space != nil {
		var err error
		if st.Used, st.Free, err = s.cfg.Space(); err != nil {
			return fmt.Errorf("measure the store: %w", err)
		}
	}
	if n := s.running(); n != nil {
		s.describeNode(n, &st)
	}
	return writeJSON(w, http.StatusOK, st)
}

// describeNode fills in what st says of the node.
func (s *Server) describeNode(n *node.Node, st *Status) {
	f := n.Figures()
	st.Online = true
	st.PeerID, st.Addrs = n.Host().ID().String(), addrStrings(n)
	st.Reachability = strings.ToLower(f.Reachability.String())
	st.NoNetwork = s.unreached(n)
	st.Peers, st.Streams, st.Open = len(n.Host().Network().Peers()), f.Streams, f.Feeds
	st.Announced, st.Unannounced, st.Behind = f.Announced, f.Unannounced, s.seeds.behind()
	st.BlocksReceived, st.BlocksSent = f.Replication.BlocksReceived, f.Replication.BlocksSent
	st.BytesReceived, st.BytesSent = f.Replication.BytesReceived, f.Replication.BytesSent
	st.RateIn, st.RateOut = s.rates.node(f)
}

func (s *Server) getIdentity(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Identity == nil {
		return Errorf(CodeError, "this process has no identity of its own")
	}
	id, err := s.cfg.Identity()
	if err != nil {
		return err
	}
	out := Identity{PeerID: id.String(), Addrs: []string{}}
	if n := s.running(); n != nil {
		out.Addrs = addrStrings(n)
	}
	return writeJSON(w, http.StatusOK, out)
}

// getBootstrap serves a private network until the client goes away.
func (s *Server) getBootstrap(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Bootstrap == nil {
		return Errorf(CodeError, "the process that holds this store (PID %d) does not serve a network; give bootstrap a store of its own with --store", s.cfg.Status.PID)
	}
	var out *eventStream
	var sent error
	err := s.cfg.Bootstrap(r.Context(), func(id peer.ID, addrs []string) {
		s.ready.Store(true)
		out = newStream(w, r)
		sent = out.event(Event{Event: "ready", Shared: &Shared{PeerID: id.String(), Addrs: addrs}})
	})
	if out != nil {
		s.ready.Store(false)
	}
	if err == nil {
		err = sent
	}
	if out == nil {
		return err
	}
	return out.fail(r, err)
}

// getVerify audits the feeds of the core parameters, or all. By POST, with repair=1, it drops what does not fit.
func (s *Server) getVerify(w http.ResponseWriter, r *http.Request) error {
	var keys []feed.Key
	for _, text := range r.URL.Query()["core"] {
		key, err := s.known(r.Context(), text)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		for e, err := range s.cfg.Store.List(r.Context()) {
			if err != nil {
				return fmt.Errorf("list feeds: %w", err)
			}
			keys = append(keys, e.Key)
		}
	}
	repair := r.Method == http.MethodPost && r.URL.Query().Get("repair") == "1"
	out := newStream(w, r)
	for _, key := range keys {
		audit, err := s.audit(r.Context(), key, repair)
		if err != nil {
			return out.fail(r, err)
		}
		if err := out.line(audit); err != nil {
			return err
		}
	}
	return out.event(Event{Event: "end"})
}

func (s *Server) audit(ctx context.Context, key feed.Key, repair bool) (Audit, error) {
	done, err := s.cfg.Store.AuditFeed(ctx, key, corestore.AuditOptions{Repair: repair})
	if err != nil {
		return Audit{}, err // the feed was known when the request began
	}
	a := Audit{
		Key: key.Hex(), ID: key.String(), Name: done.Name, Damage: []string{}, OK: done.Left == nil,
		Length: done.Info.Length, LocalBlocks: done.Info.LocalBlocks,
	}
	a.add(done.Damage)
	if r := done.Repaired; r != nil {
		a.Repaired = &Repaired{Blocks: r.Blocks, Nodes: r.Nodes}
		a.add(done.Left)
	} else if repair && !a.OK {
		a.Damage = append(a.Damage, "the head itself is damaged, which cannot be repaired: p2pcore purge, and fetch the feed again")
	}
	return a, nil
}

// add lists damage.
func (a *Audit) add(damage error) {
	var list *feed.CheckError
	switch {
	case errors.As(damage, &list):
		for _, d := range list.Damages {
			a.Damage = append(a.Damage, d.String())
		}
		a.More += list.More
	case damage != nil:
		a.Damage = append(a.Damage, damage.Error())
	}
}
