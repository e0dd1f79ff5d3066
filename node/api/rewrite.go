package api

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/p2pcore/p2pcore/feed"
)

// maxProofBytes bounds a detached proof: a block, the nodes above it, and a manifest.
const maxProofBytes = feed.MaxBlockBytes + 1<<20

// Clearing is the body of POST /v1/cores/{core}/clear: the blocks [Start, End).
type Clearing struct {
	Start uint64  `json:"start"`
	End   *uint64 `json:"end,omitempty"` // nil: the end of the feed
}

// Truncation is the body of POST /v1/cores/{core}/truncate.
type Truncation struct {
	Length *uint64 `json:"length"`
}

// Freed tells what clear or truncate has done.
type Freed struct {
	Key        string `json:"key"`
	ID         string `json:"id"`
	Length     uint64 `json:"length"`
	ByteLength uint64 `json:"byteLength"`
	Fork       uint64 `json:"fork"`
	Blocks     uint64 `json:"blocks"` // that are stored no more
	Bytes      uint64 `json:"bytes"`  // of those blocks, as they were stored
	Seeding    bool   `json:"seeding"`
}

// exact is known for what destroys something: a prefix of a key is not enough to mean a feed.
func (s *Server) exact(ctx context.Context, text string) (feed.Key, error) {
	_, whole, err := ParseCore(text)
	if err != nil {
		return feed.Key{}, err
	}
	if !whole {
		_, named, err := s.cfg.Store.LookupName(ctx, text)
		switch {
		case CheckName(text) != nil:
			return feed.Key{}, unknown(text)
		case err != nil:
			return feed.Key{}, fmt.Errorf("look up %q: %w", text, err)
		case !named:
			return feed.Key{}, Errorf(CodeUnknownKey, "no feed %q in this store; here a whole key or a name is needed, the beginning of a key is not enough", abbreviate(text))
		}
	}
	return s.known(ctx, text)
}

// openExact returns a session on the feed that the request names exactly.
func (s *Server) openExact(r *http.Request) (*feed.Session, error) {
	key, err := s.exact(r.Context(), r.PathValue("core"))
	if err != nil {
		return nil, err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	return session, nil
}

// postClear drops stored blocks. They can be fetched again.
func (s *Server) postClear(w http.ResponseWriter, r *http.Request) error {
	var body Clearing
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	session, err := s.openExact(r)
	if err != nil {
		return err
	}
	defer session.Close()
	end := session.Info().Length
	if body.End != nil {
		end = min(*body.End, end)
	}
	if body.End != nil && body.Start > *body.End {
		return Errorf(CodeUsage, "clear from block %d to %d: the end lies before the start", body.Start, *body.End)
	}
	cleared, err := session.Clear(r.Context(), feed.Range{Start: min(body.Start, end), End: end})
	if err != nil {
		return fmt.Errorf("clear %s: %w", session.Key(), err)
	}
	return s.writeFreed(w, r, session, Freed{Blocks: cleared.Blocks, Bytes: cleared.Bytes})
}

func (s *Server) writeFreed(w http.ResponseWriter, r *http.Request, session *feed.Session, f Freed) error {
	info := session.Info()
	f.Key, f.ID = info.Key.Hex(), info.Key.String()
	f.Length, f.ByteLength, f.Fork = info.Length, info.ByteLength, info.Fork
	seeding, err := s.seeds.has(r.Context(), info.Key)
	if err != nil {
		return err
	}
	f.Seeding = seeding && !info.Writable
	s.metrics.reclaimed.Add(float64(f.Bytes))
	w.Header().Set("ETag", etag(info.Fork, info.Length))
	return writeJSON(w, http.StatusOK, f)
}

// postTruncate cuts a feed that is written here; with If-Match only at that version.
func (s *Server) postTruncate(w http.ResponseWriter, r *http.Request) error {
	var body Truncation
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.Length == nil {
		return Errorf(CodeUsage, "truncate lacks the length")
	}
	match, err := ifMatch(r)
	if err != nil {
		return err
	}
	session, err := s.openExact(r)
	if err != nil {
		return err
	}
	defer session.Close()
	if !session.Info().Writable {
		return s.notWritable(session.Key())
	}
	// A turn with the appends: what If-Match names must not change meanwhile.
	select {
	case s.appending <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	defer func() { <-s.appending }()
	before := session.Info()
	if err := match.checkInfo(before); err != nil {
		return err
	}
	if *body.Length > before.Length {
		return Errorf(CodeUsage, "feed %s has %d blocks, it cannot be cut to %d", session.Key(), before.Length, *body.Length)
	}
	freed, err := session.Feed().StoredBytes(r.Context(), feed.Range{Start: *body.Length, End: before.Length})
	if err != nil {
		return fmt.Errorf("measure %s: %w", session.Key(), err)
	}
	if _, err := session.Truncate(r.Context(), *body.Length, feed.TruncateOptions{}); err != nil {
		return fmt.Errorf("truncate %s: %w", session.Key(), err)
	}
	blocks := before.LocalBlocks - min(before.LocalBlocks, session.Info().LocalBlocks)
	return s.writeFreed(w, r, session, Freed{Blocks: blocks, Bytes: freed})
}

// notWritable says why nothing can be written to a feed: the whole store is read-only, or the secret is elsewhere.
func (s *Server) notWritable(key feed.Key) *Problem {
	if s.cfg.ReadOnly != nil {
		return ProblemOf(s.cfg.ReadOnly)
	}
	return Errorf(CodeNotWritable, "feed %s is not writable here: its secret key is in the store that made it", key)
}

// Checked is what a detached proof proves.
type Checked struct {
	OK           bool       `json:"ok"`
	Key          string     `json:"key"`
	ID           string     `json:"id"`
	DiscoveryKey string     `json:"discoveryKey"`
	KeyGiven     bool       `json:"keyGiven"` // else the proof itself says whose it is
	Fork         uint64     `json:"fork"`
	Length       uint64     `json:"length"`     // of the head that is signed
	ByteLength   uint64     `json:"byteLength"` // of that head
	Block        *BlockLine `json:"block"`      // as it is stored: of an encrypted feed it is encrypted; null if the proof is of the head alone
	Bytes        []byte     `json:"-"`          // of the block
}

// Check verifies a detached proof, offline. Without a key the one that the proof names is taken: then it proves that
// who has that key's secret signed it, and not whose key it is. The problem's code is CodeVerification.
func Check(proof []byte, key *feed.Key) (Checked, error) {
	given := key != nil
	if !given {
		named, err := feed.DetachedKey(proof)
		if err != nil {
			return Checked{}, Errorf(CodeVerification, "the proof is not valid: %s", ProblemOf(err).Detail)
		}
		key = &named
	}
	v, err := feed.VerifyDetached(*key, proof)
	if err != nil {
		return Checked{}, Errorf(CodeVerification, "the proof is not valid: %s", ProblemOf(err).Detail)
	}
	c := Checked{
		OK: true, Key: key.Hex(), ID: key.String(), DiscoveryKey: key.DiscoveryKey().String(), KeyGiven: given,
		Fork: v.Head.Fork, Length: v.Head.Length, ByteLength: v.Head.ByteLength,
	}
	if v.HasBlock {
		line := NewBlockLine(v.Index, v.Block)
		c.Block, c.Bytes = &line, v.Block
	}
	return c, nil
}

// postCheck verifies the proof in the body; the store has no part in it.
func (s *Server) postCheck(w http.ResponseWriter, r *http.Request) error {
	var key *feed.Key
	if text := r.URL.Query().Get("key"); text != "" {
		link, whole, err := ParseCore(text)
		if err != nil {
			return err
		}
		if !whole {
			return unknown(text)
		}
		key = &link.Key
	}
	proof, err := ReadProof(r.Body)
	if err != nil {
		return err
	}
	checked, err := Check(proof, key)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, checked)
}

// ReadProof reads a detached proof, up to the size that one can have.
func ReadProof(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxProofBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxProofBytes {
		return nil, Errorf(CodeVerification, "the proof is not valid: it has more than %d bytes", maxProofBytes)
	}
	return b, nil
}
