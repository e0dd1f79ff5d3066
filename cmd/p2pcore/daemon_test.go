package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

// program returns a command of this program on the store in dir, in a network of its own.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("p2pcore")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "P2PCORE_STORE="+dir, "P2PCORE_NETWORK=none", "P2PCORE_MDNS=false",
		"P2PCORE_LISTEN=/ip4/127.0.0.1/tcp/0", "GORACE=atexit_sleep_ms=0", "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stderr = os.Stderr
	return cmd
}

// daemon is a daemon that is ready.
type daemon struct {
	cmd *exec.Cmd
	api.Ready
	ended chan error
}

// startDaemon starts a daemon; at the end of the test it is killed if it still runs.
func startDaemon(t *testing.T, dir string, env []string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: program(t, dir, append([]string{"daemon", "--json", "--quiet"}, args...)...), ended: make(chan error, 1)}
	d.cmd.Env = append(d.cmd.Env, env...)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &d.Ready)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(func() { d.cmd.Process.Kill() })
	if err != nil || d.Event != "ready" {
		t.Fatalf("the daemon says %q: %v", line, err)
	}
	return d
}

// TestDaemonEndsWhateverItsPeersDo has peers and clients of each kind that ask and never read an answer. It measures a time,
// so nothing else of this package runs beside it.
func TestDaemonEndsWhateverItsPeersDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notices.Close()
	notice := func(want string) {
		t.Helper()
		buf := make([]byte, 100)
		notices.SetReadDeadline(time.Now().Add(scriptPatience))
		n, err := notices.Read(buf)
		if got := string(buf[:n]); err != nil || got != want {
			t.Errorf("the service manager was told %q (%v), want %q", got, err, want)
		}
	}
	d := startDaemon(t, dir, []string{"NOTIFY_SOCKET=" + notices.LocalAddr().String()}, "--api", "127.0.0.1:0", "--tcp-listen", "127.0.0.1:0")
	notice("READY=1")

	fill := program(t, dir, "append", "big", "--chunk", "1MiB")
	if out, err := program(t, dir, "create", "big").Output(); err != nil {
		t.Fatalf("create: %v\n%s", err, out)
	}
	fill.Stdin = bytes.NewReader(make([]byte, 16<<20))
	if out, err := fill.Output(); err != nil {
		t.Fatalf("append: %v\n%s", err, out)
	}

	token, err := os.ReadFile(filepath.Join(dir, "api-token"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(d.API, "http://")
	head := "Host: " + at + "\r\nAuthorization: Bearer " + strings.TrimSpace(string(token)) + "\r\n"
	for _, door := range []struct{ network, addr string }{{"tcp", at}, {"unix", filepath.Join(dir, "api.sock")}} {
		for _, kind := range idlers {
			for range idlersOfAKind {
				kind.call(t, door.network, door.addr, head)
			}
		}
	}
	honest := idler{"POST /v1/cores/big/blocks?chunk=1 HTTP/1.1\r\n", "Content-Length: 2\r\nExpect: 100-continue\r\n\r\na", "100"}
	appending, answer := honest.call(t, "tcp", at, head)
	for range silentPeers {
		raw, err := net.Dial("tcp", d.TCP)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	info, err := peer.AddrInfoFromString(d.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(t.Context(), info.ID, node.ProtocolPlain)
	if err != nil {
		t.Fatal(err)
	}
	// An opening frame: length, 0x01, 32 random bytes, boot, number, flags.
	if _, err := s.Write(append([]byte{36, 0, 0, 1}, make([]byte, 35)...)); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	notice("STOPPING=1")
	if _, err := io.WriteString(appending, "b"); err != nil {
		t.Error(err)
	}
	var appended api.Appended
	if resp, err := http.ReadResponse(answer, nil); err != nil {
		t.Errorf("the append under way: %v", err)
	} else if err := json.NewDecoder(resp.Body).Decode(&appended); err != nil || appended.Length != 18 {
		t.Errorf("the append under way: %+v, %v, want a feed of 18 blocks", appended, err)
	}
	select {
	case err := <-d.ended:
		t.Logf("it took %v", time.Since(began))
		if err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(endPatience):
		t.Error("the daemon does not end")
	}
}

const (
	// idlersOfAKind makes some hundreds of clients, of all kinds at two doors.
	idlersOfAKind = 12
	silentPeers   = 4
	// endPatience is less than the five seconds of the contract, and twice what a busy machine needs.
	endPatience = 4 * time.Second
)

// idler is a client that leaves its daemon waiting. It sends a request line, the header that all have, and the rest.
type idler struct {
	line, rest string
	answer     string // what the first line of the answer holds, of which it reads no more; "": it waits for none
}

// idlers are the kinds of them.
var idlers = []idler{
	{"GET /v1/status HTTP/1.1\r\n", "", ""},                // never ends its header
	{"GET /v1/status?brief=1 HTTP/1.1\r\n", "\r\n", "200"}, // keeps its connection
	{"GET /v1/cores/big/blocks?follow=1 HTTP/1.1\r\n", "\r\n", "200"},
	{"GET /v1/cores/big/blocks?follow=1 HTTP/1.1\r\n", "Accept: text/event-stream\r\n\r\n", "200"},
	{"GET /v1/cores/big/bytes HTTP/1.1\r\n", "\r\n", "200"},
	{"GET /v1/cores/big/sync?live=1 HTTP/1.1\r\n", "\r\n", "200"},
	{"GET /v1/events HTTP/1.1\r\n", "\r\n", "200"},
	// These bodies never end.
	{"POST /v1/cores/big/blocks?lines=1 HTTP/1.1\r\n", "Content-Length: 100\r\nExpect: 100-continue\r\n\r\na line\n", "100"},
	{"POST /v1/cores HTTP/1.1\r\n", "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n{", "100"},
}

// call connects to the daemon's door, and waits until the daemon waits for more of the request or of the reader.
func (i idler) call(t *testing.T, network, door, head string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial(network, door)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(scriptPatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, i.line+head+i.rest); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 16)
	if i.answer == "" {
		return c, r
	}
	status, err := r.ReadString('\n')
	if err != nil || !strings.Contains(status, i.answer) {
		t.Fatalf("%s: %q, %v", strings.TrimSpace(i.line), status, err)
	}
	if i.answer == "100" {
		r.ReadString('\n') // the end of its header
	}
	return c, r
}
