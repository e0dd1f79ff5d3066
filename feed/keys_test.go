package feed_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

func TestVectorsKeys(t *testing.T) {
	var v struct {
		KeyPairs []struct {
			Seed, PublicKey, SecretKey, Message, Signature vectors.Hex
		}
		DiscoveryKeys []struct{ Key, DiscoveryKey vectors.Hex }
		IDs           []struct {
			Key vectors.Hex
			Z32 string
		}
		Decode []struct {
			Input      string
			OK         bool
			Key        vectors.Hex
			Normalized *string
		}
	}
	vectors.Load(t, "keys.json", &v)
	for _, c := range v.KeyPairs {
		pair := feed.KeyPairFromSeed([32]byte(c.Seed))
		if public := pair.Public(); !bytes.Equal(public[:], c.PublicKey) {
			t.Errorf("seed %v: public key %x, want %v", c.Seed, public, c.PublicKey)
		}
		seed, public := pair.Seed(), pair.Public()
		if secret := append(seed[:], public[:]...); !bytes.Equal(secret, c.SecretKey) {
			t.Errorf("seed %v: got %x back", c.Seed, seed)
		}
		if got := pair.Sign(c.Message); !bytes.Equal(got, c.Signature) {
			t.Errorf("seed %v: signature %x, want %v", c.Seed, got, c.Signature)
		}
	}
	for _, c := range v.DiscoveryKeys {
		if got := feed.Key(c.Key).DiscoveryKey(); !bytes.Equal(got[:], c.DiscoveryKey) {
			t.Errorf("discovery key of %v: %x, want %v", c.Key, got, c.DiscoveryKey)
		}
	}
	for _, c := range v.IDs {
		if got := feed.Key(c.Key).String(); got != c.Z32 {
			t.Errorf("id of %v: %s, want %s", c.Key, got, c.Z32)
		}
	}
	for _, c := range v.Decode {
		k, err := feed.ParseKey(c.Input)
		switch {
		case !c.OK:
			if !errors.Is(err, feed.ErrMalformedKey) {
				t.Errorf("ParseKey(%q) = %v, %v, want ErrMalformedKey", c.Input, k, err)
			}
		case err != nil || !bytes.Equal(k[:], c.Key) || k.String() != *c.Normalized:
			t.Errorf("ParseKey(%q) = %v, %v, want %v", c.Input, k, err, c.Key)
		}
	}
}

func TestKeyPairHidesItsSecret(t *testing.T) {
	pair := feed.KeyPairFromSeed([32]byte{1, 2, 3})
	seed := fmt.Sprintf("%x", pair.Seed())
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		if text := fmt.Sprintf(verb, pair); strings.Contains(text, seed[:8]) || strings.Contains(text, "[1 2 3") {
			t.Errorf("%s shows %s", verb, text)
		}
	}
	if len(pair.Sign(nil)) != ed25519.SignatureSize {
		t.Error("a signature has the wrong size")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("pear://grr66b41bd1tdad197s1171qhwfs18y7xi3c6wc8sh18zgy1obhy/x")
	f.Add("3109ef075208e511e072ff6d29764ee50b691c1d7d72cf5187b7247b98128078")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := feed.ParseKey(s)
		if err != nil {
			if !errors.Is(err, feed.ErrMalformedKey) {
				t.Fatalf("ParseKey(%q): %v", s, err)
			}
			return
		}
		for _, text := range []string{k.String(), k.Hex(), "pear://" + k.String()} {
			if again, err := feed.ParseKey(text); err != nil || again != k {
				t.Fatalf("ParseKey(%q) = %v, %v, want %v", text, again, err, k)
			}
		}
	})
}
