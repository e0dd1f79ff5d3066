package holder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	socketName = "api.sock"
	// maxSocketPath is what every system's socket address holds, with room to spare.
	maxSocketPath = 100
	// continueTimeout is how long a body that must not be sent twice ("Expect: 100-continue") waits for a holder
	// that reads it. One that is alive begins within milliseconds; after this time the body is sent.
	continueTimeout = 5 * time.Second
)

// SocketPath returns where the store in dir has its socket: in the store or, if that path is too long for a
// socket's address, in the runtime directory, which is made.
func SocketPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(abs, socketName)
	if len(path) <= maxSocketPath {
		return path, nil
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	sum := sha256.Sum256([]byte(abs))
	name := hex.EncodeToString(sum[:8]) + ".sock"
	if base == "" || len(filepath.Join(base, "p2pcore", name)) > maxSocketPath {
		base = filepath.Join("/tmp", "p2pcore-"+strconv.Itoa(os.Getuid()))
		if err := privateDir(base); err != nil {
			return "", err
		}
	}
	base = filepath.Join(base, "p2pcore")
	if err := privateDir(base); err != nil {
		return "", err
	}
	return filepath.Join(base, name), nil
}

// privateDir makes a directory that is only ours, or finds that it is.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Fails if the directory is another user's.
	return os.Chmod(dir, 0o700)
}

// DialTransport returns a RoundTripper to the socket at path.
func DialTransport(path string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableCompression:    true,
		MaxIdleConns:          2,
		ExpectContinueTimeout: continueTimeout,
	}
}
