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
	// Replace, in the body of PUT, puts the key in place of another one; of DELETE there is no body. Without it a
	// key is stored only for a feed that has none, of which nothing was stored before.
	Replace bool `json:"replace,omitempty"`
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
	if err := s.setKey(r.Context(), session, k, body.Replace); err != nil {
		return err
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// deleteKey forgets the encryption key of somebody's feed: its blocks are read as they are stored.
func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) error {
	key, err := s.known(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	if session.Info().Writable {
		return Errorf(CodeError, "feed %s is written here with its key; without it nobody could read what is in it", key).status(http.StatusConflict)
	}
	if err := s.cfg.Store.SetEncryptionKey(r.Context(), key, nil); err != nil {
		return fmt.Errorf("forget the encryption key of %s: %w", key, err)
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// setKey stores the encryption key of somebody's feed. A key comes from whoever made the link, so it never
// touches a feed that is written here, and does not take the place of another key, nor of none where blocks are
// stored, unless the user says so.
func (s *Server) setKey(ctx context.Context, session *feed.Session, k feed.EncryptionKey, replace bool) error {
	key, info := session.Key(), session.Info()
	old, ok, err := s.cfg.Store.EncryptionKey(ctx, key)
	switch {
	case err != nil:
		return fmt.Errorf("read the encryption key of %s: %w", key, err)
	case ok && old == k:
		return nil
	case info.Writable:
		return Errorf(CodeError, "feed %s is written here, and not with this key; its own is printed by p2pcore key", key).status(http.StatusConflict)
	case !replace && ok:
		return Errorf(CodeError, "the store has another encryption key for feed %s; --key-file FILE replaces it", key).status(http.StatusConflict)
	case !replace && info.LocalBlocks > 0:
		return Errorf(CodeError, "blocks of feed %s are stored and were read without a key; --key-file FILE gives one", key).status(http.StatusConflict)
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

// encrypt makes a feed that was just made an encrypted one, with the key that was given or else the one that
// belongs to it in this store.
func (s *Server) encrypt(ctx context.Context, session *feed.Session, given string) error {
	k := s.cfg.Store.DeriveEncryptionKey(session.Key())
	if given != "" {
		var err error
		if k, err = parseEncryptionKey(given); err != nil {
			return err
		}
	}
	if err := s.cfg.Store.SetEncryptionKey(ctx, session.Key(), &k); err != nil {
		return fmt.Errorf("store the encryption key of %s: %w", session.Key(), err)
	}
	return nil
}
