package holder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	identityName     = "identity"
	maxIdentityBytes = 4096
)

func (h *Holder) identity() (peer.ID, error) {
	key, err := loadIdentity(h.opts.Dir)
	if err != nil {
		return "", err
	}
	return peer.IDFromPrivateKey(key)
}

// loadIdentity reads the node's key from the store, or makes one. The store's lock is held.
func loadIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, identityName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's identity: %w", err)
	}
	if len(b) > maxIdentityBytes {
		return nil, fmt.Errorf("the node's identity %s has %d bytes", path, len(b))
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("the node's identity %s is damaged; restore it, or remove it to get a new one: %w", path, err)
	}
	return key, nil
}

func makeIdentity(path string) (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeAtomic(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("write the node's identity: %w", err)
	}
	return key, nil
}

// WriteAtomic writes a file so that a reader sees the old content or the new.
func WriteAtomic(path string, content []byte) error { return writeAtomic(path, content, 0o644) }

func writeAtomic(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
