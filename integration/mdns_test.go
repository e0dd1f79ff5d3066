package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// namespace makes a network namespace with one multicast link of its own and returns its name.
func namespace(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, AND A NEED STAYS UNPROVEN: a network namespace needs root; .ci/run has it")
	}
	// A run that was killed leaves its namespace, and process numbers come again.
	name := fmt.Sprintf("p2pcore-%016x", rand.Uint64())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	ip("-n", name, "link", "set", "lo", "up")
	// Both ends of the pair stay in the namespace: a link that is up, carries multicast and leads nowhere.
	ip("-n", name, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
	ip("-n", name, "addr", "add", "10.77.0.1/24", "dev", "lan0")
	ip("-n", name, "link", "set", "lan0", "up", "multicast", "on")
	ip("-n", name, "link", "set", "lan1", "up")
	ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "lan0")
	return name
}

// TestMulticastAloneFindsThePeer gives get nothing but a key: no network, no bootstrap peer, no address.
func TestMulticastAloneFindsThePeer(t *testing.T) {
	ns := namespace(t)
	content := bytes.Repeat([]byte("over the local network\n"), 50_000)
	path := filepath.Join(t.TempDir(), "lan.txt")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	writer, reader, stranger := newMachine(t, "--network", "none"), newMachine(t, "--network", "none"), newMachine(t, "--network", "other")
	writer.netns, reader.netns, stranger.netns = ns, ns, ns
	_, s := writer.share(nil, path)
	out := filepath.Join(t.TempDir(), "out")
	reader.get(s.Key, "-o", out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes (%v), want %d that are equal", len(got), err, len(content))
	}
	// The service name carries the network's name, so another network's nodes are not met.
	r := stranger.run(nil, "get", s.Key, "-o", filepath.Join(t.TempDir(), "out"), "--timeout", "3s")
	if r.code != 21 {
		t.Errorf("a node of another network ended with %d, want 21 (nobody found)\n%s", r.code, r.stderr)
	}
}

// TestMulticastThatCannotStartIsOneWarning runs where the only link carries no multicast.
func TestMulticastThatCannotStartIsOneWarning(t *testing.T) {
	ns := namespace(t)
	for _, link := range []string{"lan0", "lan1", "lo"} {
		if out, err := exec.Command("ip", "-n", ns, "link", "set", link, "multicast", "off").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v\n%s", err, out)
		}
	}
	if out, err := exec.Command("ip", "-n", ns, "link", "set", "lan0", "down").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v\n%s", err, out)
	}
	n := newMachine(t, "--network", "none")
	n.netns = ns
	p, _ := n.share(strings.NewReader("alone"), "-")
	if code := p.interrupt(); code != 0 {
		t.Errorf("share ended with %d", code)
	}
	warned := 0
	for _, line := range strings.Split(p.said(), "\n") {
		if strings.Contains(strings.ToLower(line), "mdns") {
			warned++
		}
	}
	if warned != 1 {
		t.Errorf("%d lines speak of mDNS, want one warning:\n%s", warned, p.said())
	}
}
