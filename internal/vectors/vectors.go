// Package vectors gives tests the vectors that were recorded from the
// JavaScript implementation. It is for test files only.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Env names the environment variable that, if set, is the folder to read in
// place of testdata/vectors.
const Env = "P2PCORE_VECTORS"

// Hex is bytes that stand in JSON as lower-case hex. null is nil, and the empty
// text is empty and not nil.
type Hex []byte

// String returns the bytes as hex.
func (h Hex) String() string { return hex.EncodeToString(h) }

// MarshalJSON writes hex, and null for nil.
func (h Hex) MarshalJSON() ([]byte, error) {
	if h == nil {
		return []byte("null"), nil
	}
	return json.Marshal(h.String())
}

// UnmarshalJSON reads hex or null.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == nil {
		*h = nil
		return nil
	}
	v, err := hex.DecodeString(*s)
	if err != nil {
		return fmt.Errorf("vectors: %w", err)
	}
	*h = append(Hex{}, v...)
	return nil
}

// Load reads the vectors file name, such as "merkle.json", into v. Anything
// that goes wrong ends the test.
func Load(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Path returns the file name of the vectors file name: in the folder that Env
// names, else in testdata/vectors of the module that the test belongs to. A
// relative folder is one of the module, for each package's tests run elsewhere.
func Path(t testing.TB, name string) string {
	t.Helper()
	folder := os.Getenv(Env)
	if folder == "" {
		folder = filepath.Join("testdata", "vectors")
	}
	if filepath.IsAbs(folder) {
		return filepath.Join(folder, name)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, folder, name)
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = up
	}
}
