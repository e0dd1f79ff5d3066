package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

func (s *Server) getCores(w http.ResponseWriter, r *http.Request) error {
	infos := []CoreInfo{}
	list := s.cfg.Store.List
	if r.URL.Query().Get("removed") == "1" {
		list = s.cfg.Store.Removed
	}
	for e, err := range list(r.Context()) {
		if err != nil {
			return fmt.Errorf("list feeds: %w", err)
		}
		info, err := s.describe(r.Context(), e)
		if errors.Is(err, feed.ErrNotFound) || errors.Is(err, corestore.ErrUnknownFeed) {
			continue // deleted while we list
		}
		if err != nil {
			return err
		}
		infos = append(infos, info)
	}
	return writeJSON(w, http.StatusOK, infos)
}

func (s *Server) getCore(w http.ResponseWriter, r *http.Request) error {
	find := s.known
	if r.URL.Query().Get("exact") == "1" {
		find = s.exact
	}
	key, err := find(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// writeCore answers with the info object of a stored feed.
func (s *Server) writeCore(w http.ResponseWriter, r *http.Request, status int, key feed.Key) error {
	e, err := s.entry(r.Context(), key)
	if err != nil {
		return err
	}
	info, err := s.describe(r.Context(), e)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(info.Fork, info.Length))
	return writeJSON(w, status, info)
}

func (s *Server) postCores(w http.ResponseWriter, r *http.Request) error {
	var body NewCore
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.EncryptionKey != "" { // before anything is made
		if _, err := parseEncryptionKey(body.EncryptionKey); err != nil {
			return err
		}
	}
	session, err := s.create(r.Context(), body)
	if err != nil {
		return err
	}
	defer session.Close()
	if body.Encrypt {
		if err := s.encrypt(r.Context(), session, body.EncryptionKey); err != nil {
			return err
		}
	}
	return s.writeCore(w, r, http.StatusCreated, session.Key())
}

func (s *Server) create(ctx context.Context, body NewCore) (*feed.Session, error) {
	switch {
	case body.Name != "" && body.Key != "":
		return nil, Errorf(CodeUsage, "a new feed has a name or a key, not both")
	case body.Encrypt && body.Key != "":
		return nil, Errorf(CodeUsage, "somebody else's feed is encrypted or not; its key is put with PUT …/key")
	case body.Key != "":
		link, ok, err := ParseCore(body.Key)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, unknown(body.Key)
		}
		return s.cfg.Store.Keyed(ctx, link.Key)
	case body.Name == "":
		return s.cfg.Store.Fresh(ctx)
	}
	if err := s.free(ctx, body.Name); err != nil {
		if session := s.unfinished(ctx, body); session != nil {
			return session, nil
		}
		return nil, err
	}
	return s.cfg.Store.Named(ctx, body.Name)
}

// unfinished returns the feed of a name that is taken, if it may be what a crash has left of making an
// encrypted one: it is written here, empty, and has no key yet.
func (s *Server) unfinished(ctx context.Context, body NewCore) *feed.Session {
	if !body.Encrypt || CheckName(body.Name) != nil {
		return nil
	}
	session, err := s.cfg.Store.Named(ctx, body.Name)
	if err != nil {
		return nil
	}
	_, encrypted, err := s.cfg.Store.EncryptionKey(ctx, session.Key())
	if info := session.Info(); err != nil || encrypted || !info.Writable || info.Length > 0 {
		session.Close()
		return nil
	}
	return session
}

// free returns an error unless a new feed may bear name.
func (s *Server) free(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	key, found, err := s.cfg.Store.LookupName(ctx, name)
	if err != nil {
		return fmt.Errorf("look up %q: %w", name, err)
	}
	if found {
		return Errorf(CodeError, "the store has a feed %q already (%s); choose another name", name, key).status(http.StatusConflict)
	}
	return nil
}

// putName gives a stored feed a name: the body is {"name": …}.
func (s *Server) putName(w http.ResponseWriter, r *http.Request) error {
	var body NewCore
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	key, err := s.known(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	if err := s.free(r.Context(), body.Name); err != nil {
		return err
	}
	if err := s.cfg.Store.Alias(r.Context(), body.Name, key); err != nil {
		return fmt.Errorf("name %s %q: %w", key, body.Name, err)
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// describe opens the feed for a moment to tell its state.
func (s *Server) describe(ctx context.Context, e corestore.Entry) (CoreInfo, error) {
	f, release, err := s.inspect(ctx, e.Key)
	if err != nil {
		return CoreInfo{}, err
	}
	defer release()
	session, err := f.Session(feed.SessionOptions{}) // not one of the store's, which would bring a removed feed back
	if err != nil {
		return CoreInfo{}, fmt.Errorf("open %s: %w", e.Key, err)
	}
	defer session.Close()
	info := session.Info()
	_, encrypted, err := s.cfg.Store.EncryptionKey(ctx, e.Key)
	if err != nil {
		return CoreInfo{}, fmt.Errorf("open %s: %w", e.Key, err)
	}
	seeding, err := s.seeds.has(ctx, e.Key)
	if err != nil {
		return CoreInfo{}, err
	}
	disk, err := f.DiskBytes(ctx)
	if err != nil {
		return CoreInfo{}, fmt.Errorf("measure %s: %w", e.Key, err)
	}
	out := CoreInfo{
		Key:              e.Key.Hex(),
		ID:               e.Key.String(),
		DiscoveryKey:     e.Key.DiscoveryKey().String(),
		Name:             e.Name,
		Namespace:        namespaceText(e.Namespace),
		Default:          e.Default,
		Length:           info.Length,
		ByteLength:       info.ByteLength,
		Fork:             info.Fork,
		ContiguousLength: info.ContiguousLength,
		LocalBlocks:      info.LocalBlocks,
		RemoteLength:     info.Length,
		Writable:         info.Writable || e.Writable,
		Encrypted:        encrypted,
		Seeding:          seeding,
		DiskBytes:        disk,
		Removed:          e.Removed,
	}
	if n := s.running(); n != nil {
		out.Announced = n.Announced(e.Key)
		out.Announcing = n.AnnouncePolicy().String()
		out.NoNetwork = s.unreached(n)
		peers := n.FeedPeers(e.Key)
		out.Peers = len(peers)
		for _, p := range peers {
			out.RemoteLength = max(out.RemoteLength, p.RemoteLength)
		}
	}
	return out, nil
}

// namespaceText is empty for the root, where the command line's names are.
func namespaceText(ns corestore.Namespace) string {
	if ns == (corestore.Namespace{}) {
		return ""
	}
	return hex.EncodeToString(ns[:])
}
