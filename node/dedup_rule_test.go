package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestDedupRule pins every case of the rule: events of one node, "small" or "large" against its remote, and the
// decisions that follow.
func TestDedupRule(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, self, script string }{
		{"opens only while it holds none", "small", `
			want: open 1
			want:
			answered 1 at 1.1: attach 1
			want:`},
		{"serves the only stream", "small", `
			incoming at 1.1: attach 1
			want:`},
		{"the remote lost the stream that we hold", "small", `
			want: open 1
			answered 1 at 1.1: attach 1
			incoming at 1.2: reset 1
			ended 1: attach 2`},
		{"the remote restarted", "large", `
			incoming at 5.9: attach 1
			incoming at 6.1: reset 1
			ended 1: attach 2`},
		{"a latecomer", "large", `
			incoming at 5.9: attach 1
			incoming at 5.8: reset 2
			ended 2:`},
		{"two newer ones while the loser ends", "small", `
			incoming at 1.1: attach 1
			incoming at 1.2: reset 1
			incoming at 1.3: reset 2
			ended 1:
			ended 2: attach 3`},
		{"crossed, the remote is smaller", "large", `
			want: open 1
			incoming at 1.1: reset 1
			answered 1 at 1.2:
			ended 1: attach 2`},
		{"crossed, we are smaller and ours is answered", "small", `
			want: open 1
			incoming at 1.1:
			answered 1 at 1.2: reset 2
			ended 2: attach 1`},
		{"crossed, we are smaller and ours fails", "small", `
			want: open 1
			incoming at 1.1:
			ended 1: attach 2`},
		{"crossed, the one in reserve fails", "small", `
			want: open 1
			incoming at 1.1:
			ended 2:
			answered 1 at 1.2: attach 1`},
		{"crossed, a newer one for the reserve", "small", `
			want: open 1
			incoming at 1.1:
			incoming at 1.2: reset 2
			ended 2:
			ended 1: attach 3`},
		{"crossed, an older one for the reserve", "small", `
			want: open 1
			incoming at 1.2:
			incoming at 1.1: reset 3
			ended 1:
			ended 3: attach 2`},
		{"noise: the newer of one opener", "small", `
			noise: attach 1
			noise: reset 1
			ended 1: attach 2`},
		{"noise: crossing a live one, the remote is smaller", "large", `
			want: open 1
			handshake 1: attach 1
			noise: reset 1
			ended 1: attach 2`},
		{"noise: crossing a live one, we are smaller", "small", `
			want: open 1
			handshake 1: attach 1
			noise: reset 2
			ended 2:`},
		{"noise: crossing, we are smaller", "small", `
			want: open 1
			noise:
			handshake 1: reset 2
			ended 2: attach 1`},
		{"noise: crossing, the remote is smaller", "large", `
			want: open 1
			noise: reset 1
			ended 1: attach 2`},
		{"noise: the plain one stays", "small", `
			incoming at 1.1: attach 1
			noise: reset 2
			ended 2:`},
		{"noise: the plain one comes", "small", `
			noise: attach 1
			incoming at 1.1: reset 1
			ended 1: attach 2`},
		{"noise: a plain one in reserve", "small", `
			want: open 1
			incoming at 1.1:
			handshake 1: reset 1
			ended 1: attach 2`},
		{"noise: a plain one for the reserve", "small", `
			want: open 1
			noise:
			incoming at 1.1: reset 2
			ended 2:
			answered 1 at 1.2: reset 3
			ended 3: attach 1`},
		{"opens again after the end", "small", `
			want: open 1
			answered 1 at 1.1: attach 1
			ended 1:
			want: open 2`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			self, remote := peer.ID("A"), peer.ID("B")
			if tc.self == "large" {
				self, remote = remote, self
			}
			d := newDedup(self)
			for line := range strings.Lines(strings.TrimSpace(tc.script)) {
				event, want, _ := strings.Cut(strings.TrimSpace(line), ":")
				var id streamID
				var s stamp
				switch verb, rest, _ := strings.Cut(event, " "); verb {
				case "want":
					d.wanted(remote)
				case "incoming":
					scan(t, rest, "at %d.%d", &s.boot, &s.number)
					d.incoming(remote, s, false)
				case "noise":
					d.incoming(remote, stamp{}, true)
				case "handshake":
					scan(t, rest, "%d", &id)
					d.answered(remote, id, stamp{}, true)
				case "answered":
					scan(t, rest, "%d at %d.%d", &id, &s.boot, &s.number)
					d.answered(remote, id, s, false)
				case "ended":
					scan(t, rest, "%d", &id)
					d.ended(remote, id)
				default:
					t.Fatalf("unknown event %q", event)
				}
				want = strings.TrimSpace(want)
				if got := describe(d.take()); got != want {
					t.Fatalf("after %q: decisions %q, want %q", event, got, want)
				}
			}
		})
	}
}

func TestDedupForgetsPeersWithoutStreams(t *testing.T) {
	t.Parallel()
	d := newDedup("A")
	d.wanted("B")
	d.incoming("C", stamp{1, 1}, false)
	d.ended("B", 1)
	d.ended("C", 2)
	if len(d.pairs) != 0 {
		t.Fatalf("%d pairs remembered after all streams ended, want 0", len(d.pairs))
	}
}

func scan(t *testing.T, text, format string, to ...any) {
	t.Helper()
	if _, err := fmt.Sscanf(text, format, to...); err != nil {
		t.Fatalf("%q does not read as %q: %v", text, format, err)
	}
}

func describe(decisions []decision) string {
	var b strings.Builder
	for i, dec := range decisions {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s %d", map[verb]string{doOpen: "open", doAttach: "attach", doReset: "reset"}[dec.do], dec.stream)
	}
	return b.String()
}
