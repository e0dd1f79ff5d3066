package interop

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// groupSetup is how a group of ours meets a JavaScript process that has its default core open and has registered
// extensions on it.
type groupSetup struct {
	network network
	jsDials bool
	jsOwns  bool // the default feed is JavaScript's, and given to our store; else ours
}

func (s groupSetup) String() string {
	text := string(s.network)
	if s.jsDials {
		text += "_JavaScript_dials"
	}
	if s.jsOwns {
		text += "_default_feed_of_JavaScript"
	}
	return text
}

// group is one meeting.
type group struct {
	*testing.T
	ctx      context.Context
	js       *jsParty
	core     int // of the default feed, in JavaScript
	ours     *goParty
	came     chan corestore.Peer
	went     chan corestore.Peer
	messages chan string // "type: text", from the peer that came last
}

// meet runs a scenario in all setups. The types that JavaScript registers are "chat", whose messages are bytes, and "key",
// in hypercore's default encoding, in which the length comes before the bytes.
func meet(t *testing.T, scenario func(g *group)) {
	t.Parallel()
	for i := range 8 {
		x := groupSetup{tcp, i&1 > 0, i&2 > 0}
		if i&4 > 0 {
			x.network = libp2p
		}
		t.Run(x.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			g := &group{T: t, ctx: ctx, js: newJS(t, ctx)}
			// There is one peer, and a scenario sends few messages.
			g.came, g.went, g.messages = make(chan corestore.Peer, 1), make(chan corestore.Peer, 1), make(chan string, 16)
			g.gather(x)
			scenario(g)
			g.js.stop()
			g.ours.stop()
		})
	}
}

// gather opens the default feed at both ends and connects them.
func (g *group) gather(x groupSetup) {
	opts := corestore.Options{Extensions: []string{"chat"}}
	var opened struct {
		Core int
		Key  string
	}
	if x.jsOwns {
		g.js.call("get", args{"store": g.js.store, "name": "default"}, &opened)
		key, err := feed.ParseKey(opened.Key)
		if err != nil {
			g.Fatal(err)
		}
		opts.DefaultKey = &key
	}
	g.ours = newGoWith(g.T, g.ctx, opts)
	store := g.ours.store
	if !x.jsOwns {
		key := store.DefaultKey()
		g.js.call("get", args{"store": g.js.store, "key": hex.EncodeToString(key[:])}, &opened)
	}
	g.core = opened.Core
	store.OnPeerAdd(func(_ context.Context, p corestore.Peer) { g.came <- p })
	store.OnPeerRemove(func(_ context.Context, p corestore.Peer) { g.went <- p })
	store.OnExtension(func(_ context.Context, typ string, message []byte, _ corestore.Peer) {
		g.messages <- fmt.Sprintf("%s: %s", typ, message)
	})
	g.js.call("extension", args{"core": g.core, "name": "chat"}, nil)
	g.js.call("extension", args{"core": g.core, "name": "key", "encoding": nil}, nil)
	if x.jsDials {
		g.js.dial(x.network, g.ours.listen(x.network))
	} else {
		g.ours.dial(x.network, g.js.listen(x.network))
	}
}

func next[T any](g *group, from <-chan T) (v T) {
	g.Helper()
	select {
	case v = <-from:
	case <-g.ctx.Done():
		g.Fatal("nothing came")
	}
	return v
}

// extend sends a message to whoever JavaScript is connected to.
func (g *group) extend(name, message string) {
	g.Helper()
	g.js.call("extend", args{"core": g.core, "name": name, "message": hex.EncodeToString([]byte(message))}, nil)
}

// extended waits for count messages of a type in JavaScript and returns the last one.
func (g *group) extended(name string, count int) string {
	g.Helper()
	var all []string
	g.js.call("extended", args{"core": g.core, "name": name, "count": count}, &all)
	b, err := hex.DecodeString(all[len(all)-1])
	if err != nil {
		g.Fatal(err)
	}
	return string(b)
}

// TestExtensionMessagesWithJavaScriptOnTheDefaultCore: JavaScript's registerExtension on the default core and our
// store's OnExtension hear each other, also for a type that we declare while connected. The peer is told of once.
func TestExtensionMessagesWithJavaScriptOnTheDefaultCore(t *testing.T) {
	meet(t, func(g *group) {
		peer := next(g, g.came)
		g.js.call("reach", args{"core": g.core, "synced": 1}, nil)
		for i := range 3 {
			text := fmt.Sprint("from JavaScript ", i)
			g.extend("key", "of no declared type")
			g.extend("chat", text)
			equal(g.T, "message from JavaScript", next(g, g.messages), "chat: "+text)
			text = fmt.Sprint("from Go ", i)
			if err := peer.Extension(g.ctx, "chat", []byte(text)); err != nil {
				g.Fatal(err)
			}
			equal(g.T, "message from Go", g.extended("chat", i+1), text)
		}
		if err := g.ours.node.Replicator().AddExtensions("key"); err != nil {
			g.Fatal(err)
		}
		g.extend("key", "declared now")
		equal(g.T, "message of a type that was added", next(g, g.messages), "key: \x0cdeclared now")
		if err := peer.Extension(g.ctx, "key", []byte("\x08and back")); err != nil {
			g.Fatal(err)
		}
		equal(g.T, "message of a type that was added", g.extended("key", 1), "and back")
		g.js.offline()
		equal(g.T, "the peer that went", next(g, g.went), peer)
		if n := len(g.came) + len(g.messages); n > 0 {
			g.Errorf("%d more peers and messages", n)
		}
	})
}

// TestProposalsExampleWithJavaScript: peers tell each other the keys of feeds by extension messages on the default feed,
// load those with get, and they replicate over the same stream.
func TestProposalsExampleWithJavaScript(t *testing.T) {
	meet(t, func(g *group) {
		peer := next(g, g.came)
		g.js.call("reach", args{"core": g.core, "synced": 1}, nil)
		mine, theirs := g.ours.open(opening{}), g.js.open(opening{})
		mine.append("a feed of Go's")
		theirs.append("a feed of JavaScript's")

		g.extend("chat", theirs.key().String())
		_, text, _ := strings.Cut(next(g, g.messages), ": ")
		loaded, err := g.ours.store.Get(g.ctx, text)
		if err != nil {
			g.Fatal(err)
		}
		defer loaded.Close()
		block, err := loaded.Get(g.ctx, 0)
		if err != nil {
			g.Fatal(err)
		}
		equal(g.T, "JavaScript's block", string(block), "a feed of JavaScript's")

		if err := peer.Extension(g.ctx, "chat", []byte(mine.key().String())); err != nil {
			g.Fatal(err)
		}
		key, err := feed.ParseKey(g.extended("chat", 1))
		if err != nil {
			g.Fatal(err)
		}
		equal(g.T, "Go's block", g.js.open(keyed(key)).get(0), "a feed of Go's")
		if n := len(g.went); n > 0 {
			g.Error("it was not the same stream")
		}
	})
}
