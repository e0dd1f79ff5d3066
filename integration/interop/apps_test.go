package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// app is a hyperbee or hyperdrive in a Node process, and its core.
type app struct{ *jsLog }

// app opens a bee or a drive: of a key, or a new one.
func (s *scene) app(p party, what string, key *feed.Key) app {
	s.Helper()
	here := p.(*jsParty)
	a := args{"store": here.store, "name": what}
	if key != nil {
		a["key"] = hex.EncodeToString(key[:])
	}
	return app{here.opened(what, a)}
}

func (a app) write(put map[string]string, remove ...string) (i info) {
	a.t.Helper()
	entries := [][2]string{}
	for _, key := range slices.Sorted(maps.Keys(put)) {
		entries = append(entries, [2]string{key, put[key]})
	}
	a.do("beeWrite", args{"put": entries, "remove": append([]string{}, remove...)}, &i)
	return i
}

// entries reads the bee from its first to its last key.
func (a app) entries() map[string]string {
	a.t.Helper()
	var list [][2]string
	a.do("beeList", nil, &list)
	entries := make(map[string]string)
	for i, e := range list {
		if i > 0 && list[i-1][0] >= e[0] {
			a.t.Fatalf("key %q comes after %q", e[0], list[i-1][0])
		}
		entries[e[0]] = e[1]
	}
	return entries
}

// put writes a file and says in files what must come out.
func (a app) put(path string, data []byte, files map[string]string) {
	a.t.Helper()
	a.do("drivePut", args{"path": path, "data": data}, nil)
	hash := sha256.Sum256(data)
	files[path] = hex.EncodeToString(hash[:])
}

func (a app) remove(path string, files map[string]string) {
	a.t.Helper()
	a.do("driveRemove", args{"path": path}, nil)
	delete(files, path)
}

// files reads the whole drive: the hash of each file.
func (a app) files() (files map[string]string) {
	a.t.Helper()
	a.do("driveList", nil, &files)
	return files
}

// coreInfo is the state of one core of an application.
type coreInfo struct {
	Key string
	info
}

func (c coreInfo) key(t *testing.T) feed.Key {
	t.Helper()
	key, err := feed.ParseKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("%s: got %d, want %d: %.300s", what, len(got), len(want), fmt.Sprint(got))
	}
}

// beeEntries are n entries of a bee; every generation changes their values.
func beeEntries(n, generation int) map[string]string {
	entries := make(map[string]string)
	for i := range n {
		entries[fmt.Sprintf("key %05d", i*7919%n)] = content(fmt.Sprint("value ", generation), i, 10+i%90)
	}
	return entries
}

// A machine that has nothing but the key keeps the bee when its writer has gone, and another Node process reads it whole.
func TestHyperbeeFromMirror(t *testing.T) {
	play(t, applications(), func(s *scene) {
		mirror := s.relay()
		bee := s.app(s.writer, "bee", nil)
		entries := beeEntries(500, 0)
		bee.write(entries)
		kept := mirror.open(keyed(bee.key()))
		kept.follow()
		s.chain(s.writer, mirror)
		kept.reach(state{contiguous: bee.info().Length})
		// The rest comes while they are connected.
		maps.Copy(entries, beeEntries(50, 1))
		bee.write(entries)
		delete(entries, "key 00003")
		end := bee.write(nil, "key 00003")
		kept.reach(state{contiguous: end.Length})
		s.writer.stop()

		s.chain(mirror, s.reader)
		key := bee.key()
		copied := s.app(s.reader, "bee", &key)
		copied.reach(state{length: end.Length})
		same(s.T, "entries", copied.entries(), entries)
		copied.download(0, end.Length)
		equal(s.T, "tree", copied.treeHash(end.Length), kept.treeHash(end.Length))
	})
}

// A drive is two feeds, of which the second one's key is in the first.
func TestHyperdriveFromMirror(t *testing.T) {
	play(t, applications(), func(s *scene) {
		mirror := s.relay()
		drive := s.app(s.writer, "drive", nil)
		files := make(map[string]string)
		for i := range 20 {
			drive.put(fmt.Sprintf("/texts/%d/text.txt", i), []byte(content("text", i, 100*i)), files)
		}
		drive.put("/large", bytes.Repeat([]byte(strings.Repeat("large file;", 101)), 3000), files)
		drive.put("/removed", []byte("removed"), files)
		var cores []coreInfo
		drive.do("driveCores", nil, &cores)
		var kept []log
		for _, c := range cores {
			kept = append(kept, mirror.open(keyed(c.key(s.T))))
			kept[len(kept)-1].follow()
		}
		s.chain(s.writer, mirror)
		drive.put("/texts/3/text.txt", []byte("another text"), files)
		drive.remove("/removed", files)
		drive.do("driveCores", nil, &cores)
		for i, c := range cores {
			kept[i].reach(state{contiguous: c.Length})
		}
		s.writer.stop()

		s.chain(mirror, s.reader)
		key := drive.key()
		copied := s.app(s.reader, "drive", &key)
		copied.reach(state{length: cores[0].Length})
		same(s.T, "files", copied.files(), files)
	})
}

// Two machines are between the writer of a bee and its reader, who sees each batch soon after it was written.
func TestHyperbeeThroughTwoRelays(t *testing.T) {
	const batches = 10
	play(t, applications(), func(s *scene) {
		near, far := s.relay(), s.relay()
		bee := s.app(s.writer, "bee", nil)
		key := bee.key()
		for _, relay := range []party{near, far} {
			relay.open(keyed(key)).follow()
		}
		copied := s.app(s.reader, "bee", &key)
		s.chain(s.writer, near, far, s.reader)
		for i := range batches {
			entries := beeEntries(10+i, i)
			written := bee.write(entries)
			copied.reach(state{length: written.Length})
			same(s.T, "entries", copied.entries(), entries)
		}
	})
}
