package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
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

// kill ends the daemon at once.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.ended
}

// TestDaemonEndsWhateverItsPeersDo has peers and clients of each kind that ask and never read an answer.
func TestDaemonEndsWhateverItsPeersDo(t *testing.T) {
	t.Parallel()
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
	for _, door := range []struct{ network, addr string }{{"tcp", at}, {"unix", filepath.Join(dir, "api.sock")}} {
		for _, path := range []string{"/v1/cores/big/blocks?follow=1", "/v1/cores/big/bytes"} {
			c, err := net.Dial(door.network, door.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, at, strings.TrimSpace(string(token)))
			head, err := bufio.NewReaderSize(c, 16).ReadString('\n')
			if err != nil || !strings.Contains(head, "200") {
				t.Fatalf("%s: %q, %v", path, head, err)
			}
		}
	}
	raw, err := net.Dial("tcp", d.TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
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
	select {
	case err := <-d.ended:
		t.Logf("it took %v", time.Since(began))
		if err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(15 * time.Second): // the contract says 5; a machine may be busy
		t.Error("the daemon does not end")
	}
}
