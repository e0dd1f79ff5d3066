package client

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/node/api"
)

// departing holds a store, tells who it is, and goes away when it is asked for more.
type departing struct {
	t     *testing.T
	disk  *disk.Disk
	read  int // bytes of the body that it reads first
	asked atomic.Int32
}

func (d *departing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/status" {
		json.NewEncoder(w).Encode(api.Status{Command: "ls"})
		return
	}
	d.asked.Add(1)
	if _, err := io.ReadFull(r.Body, make([]byte, d.read)); err != nil {
		d.t.Error(err)
	}
	if err := d.disk.Close(); err != nil { // lets the lock go
		d.t.Error(err)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		d.t.Error(err)
		return
	}
	conn.Close()
}

// TestAppendOutlivesAHolder: a request that must not be carried out twice is sent again when the holder went away
// before it read any of the body, and not when it may have stored some.
func TestAppendOutlivesAHolder(t *testing.T) {
	for _, c := range []struct {
		name   string
		read   int
		length uint64 // of the feed afterwards
		lost   bool
	}{
		{"before it reads", 0, 1, false},
		{"while it reads", 1, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := holder.Options{Dir: t.TempDir(), Command: "append"}
			first := New(Options{Holder: opts})
			var core api.CoreInfo
			create := Request{Method: http.MethodPost, Path: "/cores", Body: func() io.Reader { return strings.NewReader(`{"name":"log"}`) }}
			if err := first.JSON(t.Context(), create, &core); err != nil {
				t.Fatal(err)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			d, err := disk.Open(opts.Dir, disk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			other := &departing{t: t, disk: d, read: c.read}
			serve(t, d, opts.Dir, other)

			client := New(Options{Holder: opts})
			defer client.Close()
			var appended api.Appended
			err = client.JSON(t.Context(), Request{
				Method: http.MethodPost,
				Path:   "/cores/" + core.ID + "/blocks",
				Body:   func() io.Reader { return strings.NewReader("one block") },
				Length: int64(len("one block")),
				Once:   true,
			}, &appended)
			if errors.Is(err, ErrLost) != c.lost || err != nil && !c.lost {
				t.Errorf("error %v, want one for what may be lost: %t", err, c.lost)
			}
			if n := other.asked.Load(); n != 1 {
				t.Errorf("the holder was asked %d times, want 1", n)
			}
			var now api.CoreInfo
			if err := client.JSON(t.Context(), Request{Method: http.MethodGet, Path: "/cores/" + core.ID}, &now); err != nil {
				t.Fatal(err)
			}
			if now.Length != c.length {
				t.Errorf("the feed has %d blocks, want %d", now.Length, c.length)
			}
		})
	}
}

// serve answers on the socket of a store.
func serve(t *testing.T, d *disk.Disk, dir string, h http.Handler) {
	path, err := holder.SocketPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	if err := d.SetSocket(path); err != nil {
		t.Fatal(err)
	}
}
