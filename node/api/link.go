package api

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/p2pcore/p2pcore/feed"
)

// maxLinkBytes bounds a link. The addresses of a node with many interfaces fit many times.
const maxLinkBytes = 16 << 10

// Link names a feed to somebody else, with hints: hyper://KEY?length=N&name=FILE&peer=MULTIADDR…
//
// Of an encrypted feed it says so (encrypted=1), so that whoever has no key is told and does not get noise;
// with the key itself (secret=…) only if the sharer wants everybody who sees the link to read.
type Link struct {
	Key    feed.Key
	Length *uint64  // in blocks; nil if the link does not say
	Name   string   // of the file, as the sharer calls it; not to be trusted as a path
	Peers  []string // multiaddresses where the feed is served, unchecked

	Encrypted bool
	Secret    string // encryption key in z-base-32 or hexadecimal, unchecked; empty: the link does not carry it
}

// String formats the link. Values are percent-encoded, so that the link is one word to a shell that
// is given it in quotes and to whatever recognises links in text.
func (l Link) String() string {
	var b strings.Builder
	b.WriteString("hyper://")
	b.WriteString(l.Key.String())
	sep := byte('?')
	add := func(name, value string) {
		b.WriteByte(sep)
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
		sep = '&'
	}
	if l.Length != nil {
		add("length", strconv.FormatUint(*l.Length, 10))
	}
	if l.Name != "" {
		add("name", l.Name)
	}
	if l.Encrypted {
		add("encrypted", "1")
	}
	if l.Secret != "" {
		add("secret", l.Secret)
	}
	for _, p := range l.Peers {
		add("peer", p)
	}
	return b.String()
}

// isLink tells a link from a key or a name.
func isLink(s string) bool {
	return strings.HasPrefix(s, "hyper://") || strings.HasPrefix(s, "pear://")
}

// ParseLink reads a link, hyper:// or pear://. Parameters that it does not know are ignored, for the links of
// later versions. The error wraps feed.ErrMalformedKey.
func ParseLink(s string) (Link, error) {
	if len(s) > maxLinkBytes {
		return Link{}, fmt.Errorf("%w: a link of %d bytes", feed.ErrMalformedKey, len(s))
	}
	if !isLink(s) {
		return Link{}, fmt.Errorf("%w: %q does not begin with hyper://", feed.ErrMalformedKey, abbreviate(s))
	}
	_, rest, _ := strings.Cut(s, "://")
	rest, _, _ = strings.Cut(rest, "#")
	host, query, _ := strings.Cut(rest, "?")
	host, _, _ = strings.Cut(host, "/")
	key, err := feed.ParseKey(host)
	if err != nil {
		return Link{}, err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Link{}, fmt.Errorf("%w: the link's parameters: %v", feed.ErrMalformedKey, err)
	}
	l := Link{Key: key, Name: values.Get("name"), Peers: values["peer"], Secret: values.Get("secret")}
	l.Encrypted = l.Secret != "" || values.Get("encrypted") == "1"
	if values.Has("length") {
		n, err := strconv.ParseUint(values.Get("length"), 10, 53)
		if err != nil {
			return Link{}, fmt.Errorf("%w: length=%q in the link is no number of blocks", feed.ErrMalformedKey, abbreviate(values.Get("length")))
		}
		l.Length = &n
	}
	return l, nil
}

// ParseCore reads the forms of CORE that need no store: a whole key or a link. ok is false for
// anything else, a name or a prefix; err is set for a link that is malformed.
func ParseCore(s string) (l Link, ok bool, err error) {
	if isLink(s) {
		l, err = ParseLink(s)
		return l, err == nil, err
	}
	if key, err := feed.ParseKey(s); err == nil {
		return Link{Key: key}, true, nil
	}
	return Link{}, false, nil
}

// abbreviate shortens foreign text for a message.
func abbreviate(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
