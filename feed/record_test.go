package feed

import (
	"bytes"
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

// recordKinds are the parsers of stored records, each with a function that gives back what it has read.
var recordKinds = map[string]func([]byte) ([]byte, error){
	"auth": func(b []byte) ([]byte, error) {
		r, err := parseAuthRecord(b)
		if err != nil {
			return nil, err
		}
		return r.append(nil), nil
	},
	"head": func(b []byte) ([]byte, error) {
		r, err := parseHeadRecord(b)
		if err != nil {
			return nil, err
		}
		return r.append(nil), nil
	},
	"garbage": func(b []byte) ([]byte, error) {
		r, err := parseGarbage(b)
		if err != nil {
			return nil, err
		}
		return r.append(nil), nil
	},
	"branch": func(b []byte) ([]byte, error) {
		r, err := parseBranchRecord(b)
		if err != nil {
			return nil, err
		}
		return r.append(nil), nil
	},
	"node page": func(b []byte) ([]byte, error) {
		p, err := parseNodePage(b)
		if err != nil {
			return nil, err
		}
		return p.appendRecord(nil), nil
	},
}

// FuzzStoredRecords reads records that something has damaged: no panic, a bounded result, and what is read is read
// again from what it is written as.
func FuzzStoredRecords(f *testing.F) {
	ds := memoryStore()
	pair := KeyPairFromSeed([32]byte{7})
	w, err := Create(f.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		f.Fatal(err)
	}
	defer w.Close()
	s := session(f, w)
	appendBlocks(f, s, testBlocks(0, 100)...)
	if _, err := s.Truncate(f.Context(), 70, TruncateOptions{}); err != nil {
		f.Fatal(err)
	}
	b, err := s.Branch(f.Context(), "b", BranchOptions{})
	if err != nil {
		f.Fatal(err)
	}
	appendBlocks(f, b, testBlocks(0, 5)...)
	results, err := ds.Query(f.Context(), allKeys)
	if err != nil {
		f.Fatal(err)
	}
	keys, err := results.Rest()
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range keys {
		value, err := w.storage.get(f.Context(), datastore.RawKey(e.Key))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for kind, again := range recordKinds {
			first, err := again(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v", kind, err)
				}
				continue
			}
			second, err := again(first)
			if err != nil || !bytes.Equal(first, second) {
				t.Errorf("%s: %x is read as %x and then as %x, %v", kind, b, first, second, err)
			}
		}
	})
}
