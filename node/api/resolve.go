package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

const (
	maxNameBytes   = 64
	minPrefixBytes = 6 // digits of a key that are enough to mean it
	z32Alphabet    = "ybndrfg8ejkmcpqxot1uwisza345h769"
	hexAlphabet    = "0123456789abcdefABCDEF"
)

// CheckName returns an error if name may not name a feed: 1 to 64 of A–Z a–z 0–9 . _ -, not beginning
// with a dot or a dash, and not readable as a whole key.
func CheckName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return Errorf(CodeUsage, "a feed's name has 1 to %d characters, %q has %d", maxNameBytes, abbreviate(name), len(name))
	}
	if name[0] == '.' || name[0] == '-' {
		return Errorf(CodeUsage, "a feed's name does not begin with %q: %q", name[:1], name)
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-' {
			return Errorf(CodeUsage, "a feed's name consists of A–Z a–z 0–9 . _ -, not %q: %q", r, name)
		}
	}
	if _, err := feed.ParseKey(name); err == nil {
		return Errorf(CodeUsage, "%q reads as a key, it cannot name a feed", name)
	}
	return nil
}

// resolve finds the key that text means: a whole key or a link; the name of a feed in the store; a prefix of at
// least six digits of one stored key. A whole key need not be stored, see known.
func (s *Server) resolve(ctx context.Context, text string) (feed.Key, error) {
	link, ok, err := ParseCore(text)
	if err != nil {
		return feed.Key{}, err
	}
	if ok {
		return link.Key, nil
	}
	if CheckName(text) == nil {
		key, found, err := s.cfg.Store.LookupName(ctx, text)
		if err != nil {
			return feed.Key{}, fmt.Errorf("look up %q: %w", text, err)
		}
		if found {
			return key, nil
		}
	}
	return s.resolvePrefix(ctx, text)
}

func (s *Server) resolvePrefix(ctx context.Context, text string) (feed.Key, error) {
	var found []feed.Key
	if isPrefix(text) {
		for entry, err := range s.cfg.Store.List(ctx) {
			if err != nil {
				return feed.Key{}, fmt.Errorf("list feeds: %w", err)
			}
			if strings.HasPrefix(entry.Key.String(), text) || strings.HasPrefix(entry.Key.Hex(), strings.ToLower(text)) {
				found = append(found, entry.Key)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return feed.Key{}, unknown(text)
	}
	ids := make([]string, len(found))
	for i, key := range found {
		ids[i] = key.String()
	}
	return feed.Key{}, Errorf(CodeUnknownKey, "%q is the beginning of %d keys: %s; give more digits", text, len(found), strings.Join(ids, " "))
}

// unknown says why text means nothing here.
func unknown(text string) *Problem {
	if len(text) == 52 || len(text) >= 60 {
		return Errorf(CodeUnknownKey, "malformed key %q: a key has 52 digits of z-base-32 or 64 of hexadecimal", abbreviate(text))
	}
	return Errorf(CodeUnknownKey, "no feed %q in this store: no name, and no key that begins so; see p2pcore ls", abbreviate(text))
}

func isPrefix(s string) bool {
	if len(s) < minPrefixBytes {
		return false
	}
	only := func(alphabet string) bool {
		return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(alphabet, r) }) < 0
	}
	return only(z32Alphabet) || only(hexAlphabet)
}

// known is resolve for what must be stored here already.
func (s *Server) known(ctx context.Context, text string) (feed.Key, error) {
	key, err := s.resolve(ctx, text)
	if err != nil {
		return feed.Key{}, err
	}
	stored, err := s.cfg.Store.Stored(ctx, key)
	if err != nil {
		return feed.Key{}, fmt.Errorf("look up %s: %w", key, err)
	}
	if !stored {
		return feed.Key{}, Errorf(CodeUnknownKey, "no feed %s in this store; p2pcore get fetches it", key)
	}
	return key, nil
}

// entry returns what the store knows of key.
func (s *Server) entry(ctx context.Context, key feed.Key) (corestore.Entry, error) {
	e, ok, err := s.cfg.Store.Find(ctx, key)
	if err != nil {
		return corestore.Entry{}, fmt.Errorf("look up %s: %w", key, err)
	}
	if !ok {
		return corestore.Entry{Key: key, DiscoveryKey: key.DiscoveryKey()}, nil
	}
	return e, nil
}
