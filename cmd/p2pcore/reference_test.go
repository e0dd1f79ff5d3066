package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

// TestReferenceIsWhatTheProgramPrints compares docs/reference.md with p2pcore reference. With -update it is written.
func TestReferenceIsWhatTheProgramPrints(t *testing.T) {
	var out bytes.Buffer
	a := newApp(strings.NewReader(""), &out, io.Discard)
	a.writeReference(&out)
	path := filepath.Join("..", "..", "docs", "reference.md")
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("docs/reference.md is not what p2pcore reference prints; go test ./cmd/p2pcore -run Reference -update writes it anew")
	}
}
