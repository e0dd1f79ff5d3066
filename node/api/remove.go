package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// Removal tells what rm or purge has done.
type Removal struct {
	Key       string `json:"key"`
	ID        string `json:"id"`
	Name      string `json:"name"`
	Purged    bool   `json:"purged"`    // nothing of it is stored any more; else its storage stays
	Forgotten bool   `json:"forgotten"` // and its last fork is not remembered either
	Blocks    uint64 `json:"blocks"`    // that are stored no more
	Bytes     uint64 `json:"bytes"`     // given back; 0 if the feed was too damaged to be measured
}

// deleteCore takes a feed out of the group and off the list of what is seeded; with purge=1 it deletes it, and with
// forget=1 also what is remembered of one that was deleted.
func (s *Server) deleteCore(w http.ResponseWriter, r *http.Request) error {
	ctx, q := r.Context(), r.URL.Query()
	done := Removal{Purged: q.Get("purge") == "1", Forgotten: q.Get("forget") == "1"}
	if done.Forgotten && !done.Purged {
		return Errorf(CodeUsage, "forget=1 goes with purge=1")
	}
	key, err := s.exact(ctx, r.PathValue("core"))
	if err != nil && done.Forgotten {
		return s.forget(w, r, err)
	}
	if err != nil {
		return err
	}
	done.Key, done.ID = key.Hex(), key.String()
	e, err := s.entry(ctx, key)
	if err != nil {
		return err
	}
	done.Name = e.Name
	if err := s.measure(r, key, &done); err != nil {
		return err
	}
	// The command that holds the store may end because its feed goes, and the one that has asked wants to hear of it.
	ctx = context.WithoutCancel(ctx)
	// Off the list first: what is on it is brought back.
	if err := s.seeds.remove(ctx, key); err != nil {
		return err
	}
	if !done.Purged {
		done.Blocks, done.Bytes = 0, 0
		if err := s.cfg.Store.Remove(ctx, key); err != nil {
			return fmt.Errorf("remove %s: %w", key, err)
		}
		return writeJSON(w, http.StatusOK, done)
	}
	err = s.cfg.Store.Delete(ctx, key, corestore.DeleteOptions{Forget: done.Forgotten})
	switch {
	case errors.Is(err, feed.ErrCorrupt):
		return Errorf(CodeVerification, "feed %s is too damaged for its last fork to be read, and without that its readers would not follow if it were made again; p2pcore purge --forget deletes it all the same", key)
	case err != nil:
		return fmt.Errorf("purge %s: %w", key, err)
	}
	s.metrics.reclaimed.Add(float64(done.Bytes))
	return writeJSON(w, http.StatusOK, done)
}

// measure notes what is stored of a feed, and compares its version with If-Match. Of a damaged feed nothing is known.
func (s *Server) measure(r *http.Request, key feed.Key, done *Removal) error {
	match, err := ifMatch(r)
	if err != nil {
		return err
	}
	f, release, err := s.inspect(r.Context(), key)
	switch {
	case errors.Is(err, feed.ErrCorrupt) && match == nil:
		return nil
	case err != nil:
		return err
	}
	defer release()
	info := f.Info()
	if err := match.checkInfo(info); err != nil {
		return err
	}
	done.Blocks = info.LocalBlocks
	if done.Bytes, err = f.DiskBytes(r.Context()); err != nil {
		return fmt.Errorf("measure %s: %w", key, err)
	}
	return nil
}

// forget drops what is remembered of a feed that was deleted before. If nothing is, the answer is why.
func (s *Server) forget(w http.ResponseWriter, r *http.Request, why error) error {
	key, ok := s.former(r.PathValue("core"))
	if !ok {
		return why
	}
	stored, err := s.cfg.Store.Stored(r.Context(), key)
	if err != nil {
		return fmt.Errorf("look up %s: %w", key, err)
	}
	if stored { // somebody has just made it
		return why
	}
	err = s.cfg.Store.Delete(r.Context(), key, corestore.DeleteOptions{Forget: true})
	if errors.Is(err, corestore.ErrUnknownFeed) {
		return why
	}
	if err != nil {
		return fmt.Errorf("forget %s: %w", key, err)
	}
	return writeJSON(w, http.StatusOK, Removal{Key: key.Hex(), ID: key.String(), Purged: true, Forgotten: true})
}

// former returns the key that text had, or would have, in this store: a whole key, or that of the feed which a name makes.
func (s *Server) former(text string) (key feed.Key, ok bool) {
	link, whole, err := ParseCore(text)
	switch {
	case err != nil || whole:
		return link.Key, err == nil
	case CheckName(text) != nil:
		return key, false
	}
	public := s.cfg.Store.KeyPair(text).Public()
	key, err = feed.KeyOf(public[:], feed.KeyOptions{})
	return key, err == nil
}

// inspect opens a stored feed to look at it: one that was removed stays so. The caller calls release.
func (s *Server) inspect(ctx context.Context, key feed.Key) (f *feed.Feed, release func(), err error) {
	f, release, err = s.cfg.Store.Inspect(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", key, err)
	}
	return f, release, nil
}
