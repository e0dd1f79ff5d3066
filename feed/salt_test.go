package feed

import (
	"fmt"
	"testing"
)

// TestNoTwoWritesShareANonce writes block 0 of an encrypted feed again in all the ways there are, and compares the
// stored nonces.
func TestNoTwoWritesShareANonce(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{7})
	seen := make(map[string]string)
	note := func(f *Feed, what string) {
		t.Helper()
		p, err := f.Session(SessionOptions{Encryption: Plain})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		stored, err := p.Get(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		nonce := string(stored[:blockPadding])
		if before, ok := seen[nonce]; ok {
			t.Errorf("%s: the nonce is that of %q", what, before)
		}
		seen[nonce] = what
	}
	for life := range 2 { // the second is made again from the same secret, and remembers nothing
		f := create(t, memoryStore(), Options{KeyPair: &pair})
		s, err := f.Session(SessionOptions{Encryption: NewBlockEncryption(f.Key(), false, EncryptionKey{1})})
		if err != nil {
			t.Fatal(err)
		}
		truncate := func(o TruncateOptions) {
			t.Helper()
			if _, err := s.Truncate(t.Context(), 0, o); err != nil {
				t.Fatal(err)
			}
		}
		appendBlocks(t, s, []byte("first"))
		note(f, fmt.Sprint("life ", life))
		truncate(TruncateOptions{})
		appendBlocks(t, s, []byte("after a truncation"))
		note(f, fmt.Sprint("truncation in life ", life))
		truncate(TruncateOptions{Fork: f.Info().Fork, Force: true})
		appendBlocks(t, s, []byte("after a forced one"))
		note(f, fmt.Sprint("forced truncation in life ", life))
		for i := range 2 {
			truncate(TruncateOptions{})
			b, err := s.Branch(t.Context(), fmt.Sprint("draft ", i), BranchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, b, []byte("on a branch"))
			if _, err := s.Commit(t.Context(), b, CommitOptions{}); err != nil {
				t.Fatal(err)
			}
			note(f, fmt.Sprint("branch ", i, " in life ", life))
		}
	}
}
