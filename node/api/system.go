package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/feed"
)

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	st := s.cfg.Status
	if n := s.running(); n != nil {
		st.Online = true
		st.PeerID = n.Host().ID().String()
		st.Addrs = addrStrings(n)
		st.Peers = len(n.Peers())
	}
	return writeJSON(w, http.StatusOK, st)
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
		out = newStream(w, r)
		sent = out.event(Event{Event: "ready", Shared: &Shared{PeerID: id.String(), Addrs: addrs}})
	})
	if err == nil {
		err = sent
	}
	if out == nil {
		return err
	}
	return out.fail(r, err)
}

// getVerify audits the feeds of the core parameters, or all.
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
	out := newStream(w, r)
	for _, key := range keys {
		audit, err := s.audit(r, key)
		if err != nil {
			return out.fail(r, err)
		}
		if err := out.line(audit); err != nil {
			return err
		}
	}
	return out.event(Event{Event: "end"})
}

func (s *Server) audit(r *http.Request, key feed.Key) (Audit, error) {
	ctx := r.Context()
	e, err := s.entry(ctx, key)
	if err != nil {
		return Audit{}, err
	}
	a := Audit{Key: key.Hex(), ID: key.String(), Name: e.Name, Damage: []string{}}
	session, err := s.cfg.Store.Keyed(ctx, key)
	if errors.Is(err, feed.ErrCorrupt) {
		a.Damage = append(a.Damage, err.Error())
		return a, nil
	}
	if err != nil {
		return Audit{}, fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	info := session.Info()
	a.Length, a.LocalBlocks = info.Length, info.LocalBlocks
	err = session.Feed().Check(ctx)
	var damage *feed.CheckError
	switch {
	case err == nil:
		a.OK = true
	case errors.As(err, &damage):
		for _, d := range damage.Damages {
			a.Damage = append(a.Damage, fmt.Sprintf("%s %d: %v", d.What, d.Index, d.Err))
		}
		a.More = damage.More
	case errors.Is(err, feed.ErrCorrupt):
		a.Damage = append(a.Damage, err.Error())
	default:
		return Audit{}, fmt.Errorf("audit %s: %w", key, err)
	}
	return a, nil
}
