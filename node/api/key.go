package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/p2pcore/p2pcore/feed"
)

// CoreKey is the encryption key of a feed: the answer to GET /v1/cores/{core}/key, and, with EncryptionKey
// alone, the body of PUT. It is in bodies only, which nothing logs.
type CoreKey struct {
	Key           string `json:"key,omitempty"`
	ID            string `json:"id,omitempty"`
	DiscoveryKey  string `json:"discoveryKey,omitempty"`
	EncryptionKey string `json:"encryptionKey"` // z-base-32
}

func (s *Server) getKey(w http.ResponseWriter, r *http.Request) error {
	key, err := s.known(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	k, ok, err := s.cfg.Store.EncryptionKey(r.Context(), key)
	if err != nil {
		return fmt.Errorf("read the encryption key of %s: %w", key, err)
	}
	if !ok {
		return Errorf(CodeError, "the store has no encryption key for feed %s: it is not encrypted, or its key was not given here", key).status(http.StatusNotFound)
	}
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, http.StatusOK, CoreKey{
		Key: key.Hex(), ID: key.String(), DiscoveryKey: key.DiscoveryKey().String(), EncryptionKey: k.Text(),
	})
}

// putKey stores the encryption key of somebody's feed. A whole key or a link is put into the store for it.
func (s *Server) putKey(w http.ResponseWriter, r *http.Request) error {
	var body CoreKey
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	k, err := parseEncryptionKey(body.EncryptionKey)
	if err != nil {
		return err
	}
	key, err := s.resolve(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	if err := s.setKey(r.Context(), session, k); err != nil {
		return err
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// setKey stores a feed's encryption key, unless its blocks are written without one, or with another one, here.
func (s *Server) setKey(ctx context.Context, session *feed.Session, k feed.EncryptionKey) error {
	key := session.Key()
	old, ok, err := s.cfg.Store.EncryptionKey(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("read the encryption key of %s: %w", key, err)
	case ok && old == k:
		return nil
	case session.Info().Writable && session.Info().Length > 0:
		return Errorf(CodeError, "feed %s has %d blocks that were written without this key; make a new feed for encrypted ones", key, session.Info().Length).status(http.StatusConflict)
	}
	if err := s.cfg.Store.SetEncryptionKey(ctx, key, &k); err != nil {
		return fmt.Errorf("store the encryption key of %s: %w", key, err)
	}
	return nil
}

func parseEncryptionKey(text string) (feed.EncryptionKey, error) {
	k, err := feed.ParseEncryptionKey(text)
	if err != nil {
		return k, Errorf(CodeUsage, "malformed encryption key: it has 52 digits of z-base-32 or 64 of hexadecimal")
	}
	return k, nil
}

// encrypt makes a new feed an encrypted one, with the key that was given or else the one that belongs to it in this store.
func (s *Server) encrypt(ctx context.Context, session *feed.Session, given string) error {
	k := s.cfg.Store.DeriveEncryptionKey(session.Key())
	if given != "" {
		var err error
		if k, err = parseEncryptionKey(given); err != nil {
			return err
		}
	}
	return s.setKey(ctx, session, k)
}
