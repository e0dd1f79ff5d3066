package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/p2pcore/p2pcore/feed"
)

// etag names a version of a feed: "FORK.LENGTH".
func etag(fork, length uint64) string { return fmt.Sprintf(`"%d.%d"`, fork, length) }

// versions are the entity tags that a request names; nil are all.
type versions []string

// ifMatch reads If-Match (RFC 9110 section 13.1.1). One that names nothing, as of a script whose variable is empty, is a
// mistake: what it was to guard must not happen unguarded.
func ifMatch(r *http.Request) (versions, error) {
	values := r.Header.Values("If-Match")
	if len(values) == 0 {
		return nil, nil
	}
	tags := entityTags(values)
	if len(tags) == 0 {
		return nil, Errorf(CodeUsage, `If-Match names no version; want "FORK.LENGTH" in quotes, or *`)
	}
	if tags.any() {
		return nil, nil
	}
	return tags, nil
}

// entityTags splits a header that lists entity tags. Ours hold no commas.
func entityTags(values []string) versions {
	var tags versions
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

func (v versions) any() bool { return len(v) == 1 && v[0] == "*" }

// check compares the version of a feed with those that are named; strongly, so W/ never fits.
func (v versions) check(fork, length uint64) error {
	is := etag(fork, length)
	if v == nil || slices.Contains(v, is) {
		return nil
	}
	return Errorf(CodeError, "the feed is at version %s, not %s; nothing was changed", is, abbreviate(strings.Join(v, ", "))).status(http.StatusPreconditionFailed)
}

// checkInfo is check of a feed as it is.
func (v versions) checkInfo(info feed.Info) error { return v.check(info.Fork, info.Length) }

// noneMatch tells whether If-None-Match (RFC 9110 section 13.1.2, which compares weakly) names the version: the client
// has it.
func noneMatch(r *http.Request, tag string) bool {
	tags := entityTags(r.Header.Values("If-None-Match"))
	if tags.any() {
		return true
	}
	for _, t := range tags {
		if strings.TrimPrefix(t, "W/") == tag {
			return true
		}
	}
	return false
}
