package feed

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// someEncryptions returns one of each kind, with a name.
func someEncryptions() map[string]Encryption {
	k := EncryptionKey{1, 2, 3}
	keys := &ring{latest: 9, keys: map[uint32]EncryptionKey{9: k}}
	derive := func(k EncryptionKey) HypercoreKeys {
		return HypercoreKeys{Block: DeriveBlockKey(Key{4}, false, k), Hash: EncryptionKey{5}}
	}
	old := func(index uint64) Encryption {
		if index%2 == 0 {
			return NewBlockKeyEncryption(k)
		}
		return nil
	}
	return map[string]Encryption{
		"plain":             Plain,
		"block":             NewBlockEncryption(Key{4}, false, k),
		"block compat":      NewBlockEncryption(Key{4}, true, k),
		"block key":         NewBlockKeyEncryption(k),
		"block late":        NewLateBlockEncryption(Key{4}, func() bool { return false }, k),
		"hypercore":         NewHypercoreEncryption(keys, HypercoreOptions{}),
		"hypercore derived": NewHypercoreEncryption(keys, HypercoreOptions{Derive: derive}),
		"hypercore compat":  NewHypercoreEncryption(keys, HypercoreOptions{Compat: old}),
	}
}

// randomBlocks returns blocks around the sizes at which ciphers and hashes change their step.
func randomBlocks(r *rand.Rand) (blocks [][]byte) {
	for _, n := range []int{0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 4096, 70000, r.IntN(1000), r.IntN(1000)} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		blocks = append(blocks, b)
	}
	return blocks
}

func TestEncryptionComesBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for name, e := range someEncryptions() {
		for _, block := range randomBlocks(r) {
			index, fork := r.Uint64()>>r.IntN(64), r.Uint64()>>r.IntN(64)
			input := bytes.Clone(block)
			stored, err := e.Encrypt(index, fork, input)
			if err != nil || uint64(len(stored)) != uint64(len(block))+e.Padding() {
				t.Fatalf("%s: %d bytes are stored as %d, %v", name, len(block), len(stored), err)
			}
			// The result is the caller's: neither side may see what the other does to its slice.
			if len(input) > 0 {
				input[0]++
			}
			again, err := e.Encrypt(index, fork, block)
			if err != nil || !bytes.Equal(again, stored) {
				t.Fatalf("%s: encrypting again gives %x, %v, want %x", name, again, err, stored)
			}
			if name != "plain" && len(block) > 16 && bytes.Contains(stored, block) {
				t.Errorf("%s: the block is stored in clear", name)
			}
			got, err := e.Decrypt(index, stored)
			if err != nil || !bytes.Equal(got, block) {
				t.Fatalf("%s: block %d of %d bytes comes back as %d, %v", name, index, len(block), len(got), err)
			}
		}
	}
}

// XORed with each other, two blocks of one key stream lose it. Index, fork and key change all of it.
func TestBlockEncryptionNeverRepeatsAKeyStream(t *testing.T) {
	t.Parallel()
	zeros := make([]byte, 64)
	seen := map[string]string{}
	for _, key := range []Key{{1}, {2}} {
		for _, compat := range []bool{false, true} {
			e := NewBlockEncryption(key, compat, EncryptionKey{3})
			for _, index := range []uint64{0, 1, 1 << 32, math.MaxUint64} {
				for _, fork := range []uint64{0, 1, 1 << 32, math.MaxUint64} {
					name := fmt.Sprintf("key %v, compat %v, index %d, fork %d", key, compat, index, fork)
					stored, err := e.Encrypt(index, fork, zeros)
					if err != nil {
						t.Fatal(err)
					}
					for _, part := range [][]byte{stored[8:40], stored[40:]} {
						if before, ok := seen[string(part)]; ok {
							t.Errorf("%s has the key stream of %s", name, before)
						}
						seen[string(part)] = name
					}
				}
			}
		}
	}
}

func TestBlockKeyAloneDecrypts(t *testing.T) {
	t.Parallel()
	for _, compat := range []bool{false, true} {
		k, core := EncryptionKey{1}, Key{2}
		stored, err := NewBlockEncryption(core, compat, k).Encrypt(5, 6, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		guest := NewBlockKeyEncryption(DeriveBlockKey(core, compat, k))
		if got, err := guest.Decrypt(5, bytes.Clone(stored)); err != nil || string(got) != "hello" {
			t.Errorf("compat %v: the block key gives %q, %v", compat, got, err)
		}
		if got, err := NewBlockEncryption(core, !compat, k).Decrypt(5, bytes.Clone(stored)); err != nil || string(got) == "hello" {
			t.Errorf("compat %v: the other derivation gives %q, %v", compat, got, err)
		}
	}
}

func TestLateBlockEncryptionFollowsTheManifest(t *testing.T) {
	t.Parallel()
	compat := false
	late := NewLateBlockEncryption(Key{1}, func() bool { return compat }, EncryptionKey{2})
	for _, compat = range []bool{false, true, false} {
		want, err := NewBlockEncryption(Key{1}, compat, EncryptionKey{2}).Encrypt(3, 4, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := late.Encrypt(3, 4, []byte("hello")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("compat %v: stored %x, %v, want %x", compat, got, err, want)
		}
		if got, err := late.Decrypt(3, want); err != nil || string(got) != "hello" {
			t.Errorf("compat %v: decrypted %q, %v", compat, got, err)
		}
	}
}

func TestDecryptRefusesShortBlocks(t *testing.T) {
	t.Parallel()
	for name, e := range someEncryptions() {
		for n := range e.Padding() {
			for index := range uint64(2) {
				stored := bytes.Repeat([]byte{1}, int(n))
				if got, err := e.Decrypt(index, stored); !errors.Is(err, ErrDecrypt) {
					t.Errorf("%s: block of %d bytes gives %x, %v, want ErrDecrypt", name, n, got, err)
				}
			}
		}
	}
}

func TestHypercoreEncryptionReadsForms(t *testing.T) {
	t.Parallel()
	keys := &ring{latest: 2, keys: map[uint32]EncryptionKey{2: {1}}}
	e := NewHypercoreEncryption(keys, HypercoreOptions{})
	stored := append([]byte{0, 9, 9, 9, 9, 9, 9, 9}, "hello"...)
	if got, err := e.Decrypt(0, stored); err != nil || string(got) != "hello" {
		t.Errorf("plain body: %q, %v", got, err)
	}
	for _, form := range []byte{2, 3, 128, 255} {
		stored[0] = form
		before := bytes.Clone(stored)
		if got, err := e.Decrypt(0, stored); !errors.Is(err, ErrDecrypt) || !bytes.Equal(stored, before) {
			t.Errorf("form %d: %q, %v, want ErrDecrypt and nothing changed", form, got, err)
		}
	}
	stored[0] = formEncrypted
	before := bytes.Clone(stored)
	if got, err := e.Decrypt(0, stored); !errors.Is(err, ErrDecrypt) || !errors.Is(err, errNoSuchKey) || !bytes.Equal(stored, before) {
		t.Errorf("unknown key: %q, %v, want ErrDecrypt and the ring's error", got, err)
	}
	keys.latest = 3
	if _, err := e.Encrypt(0, 0, nil); !errors.Is(err, errNoSuchKey) {
		t.Errorf("no latest key: %v, want the ring's error", err)
	}
	wrong := NewHypercoreEncryption(keys, HypercoreOptions{Compat: func(uint64) Encryption { return Plain }})
	if _, err := wrong.Encrypt(0, 0, nil); err == nil {
		t.Error("another padding is taken for writing")
	}
	if _, err := wrong.Decrypt(0, before); !errors.Is(err, ErrDecrypt) {
		t.Errorf("another padding is taken for reading: %v", err)
	}
}

func TestHypercoreEncryptionCachesKeysOfTheRing(t *testing.T) {
	t.Parallel()
	keys := &ring{keys: map[uint32]EncryptionKey{}}
	writer := NewHypercoreEncryption(keys, HypercoreOptions{})
	var stored [][]byte
	for id := range uint32(maxCachedKeys + 10) {
		keys.latest, keys.keys[id] = id, EncryptionKey{byte(id), 1}
		b, err := writer.Encrypt(uint64(id), 0, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, b)
		if n := len(writer.keys); n > maxCachedKeys {
			t.Fatalf("%d keys are cached", n)
		}
	}
	reader := NewHypercoreEncryption(keys, HypercoreOptions{})
	read := func(i int) {
		t.Helper()
		if got, err := reader.Decrypt(uint64(i), bytes.Clone(stored[i])); err != nil || string(got) != "hello" {
			t.Fatalf("block %d is %q, %v", i, got, err)
		}
	}
	for range 3 {
		read(0)
		read(1)
	}
	if n := keys.lookups.Load(); n != 2 {
		t.Errorf("two keys were looked up %d times", n)
	}
	if reader.Forget(); len(reader.keys) != 0 {
		t.Error("Forget keeps keys")
	}
	for i := range stored {
		read(i)
	}
	if n := len(reader.keys); n > maxCachedKeys {
		t.Errorf("%d keys are cached", n)
	}
	if n := int(keys.lookups.Load()); n != 2+len(stored) {
		t.Errorf("%d lookups, want one more for each of %d keys", n, len(stored))
	}
	// A ring that changes what its latest key is goes before the cache.
	keys.keys[keys.latest] = EncryptionKey{77}
	fresh := NewHypercoreEncryption(keys, HypercoreOptions{})
	want, err := fresh.Encrypt(0, 0, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := writer.Encrypt(0, 0, []byte("x")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with the new key: %x, %v, want %x", got, err, want)
	}
}

func TestEncryptionIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	for name, e := range someEncryptions() {
		var group sync.WaitGroup
		for i := range uint64(4) {
			group.Go(func() {
				for j := range uint64(50) {
					block := []byte(fmt.Sprint(i, j))
					stored, err := e.Encrypt(j, i, block)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					if got, err := e.Decrypt(j, stored); err != nil || !bytes.Equal(got, block) {
						t.Errorf("%s: got %q, %v, want %q", name, got, err, block)
					}
					if h, ok := e.(*HypercoreEncryption); ok && j%7 == 0 {
						h.Forget()
					}
				}
			})
		}
		group.Wait()
	}
}

func TestParseEncryptionKey(t *testing.T) {
	t.Parallel()
	k := NewEncryptionKey()
	if k == NewEncryptionKey() {
		t.Error("two random keys are equal")
	}
	upper := strings.ToUpper(hex.EncodeToString(k[:]))
	for _, text := range []string{k.Text(), strings.ToLower(upper), upper} {
		if got, err := ParseEncryptionKey(text); err != nil || got != k {
			t.Errorf("ParseEncryptionKey of %d characters: %v", len(text), err)
		}
	}
	text := k.Text()
	for _, bad := range []string{
		"", text[1:], text + "y", text + "\n", " " + text, strings.ToUpper(text), "l" + text[1:], "0x" + upper[2:],
		"pear://" + text, "pear://" + text + "/abcd", // of 64 characters
	} {
		_, err := ParseEncryptionKey(bad)
		if !errors.Is(err, ErrMalformedKey) {
			t.Errorf("ParseEncryptionKey(%q): %v, want ErrMalformedKey", bad, err)
		} else if strings.Contains(err.Error(), text[10:20]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestEncryptionHidesItsKeys(t *testing.T) {
	t.Parallel()
	k := EncryptionKey(bytes.Repeat([]byte{0xab}, 32))
	keys := &ring{latest: 1, keys: map[uint32]EncryptionKey{1: k}}
	hyper := NewHypercoreEncryption(keys, HypercoreOptions{})
	if _, err := hyper.Encrypt(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	derived := DeriveBlockKey(Key{1}, false, k)
	for _, v := range []any{
		k, &k, struct{ K EncryptionKey }{k}, HypercoreKeys{Block: k, Hash: k}, []EncryptionKey{k},
		NewBlockKeyEncryption(k), NewBlockEncryption(Key{1}, false, k), hyper,
		NewLateBlockEncryption(Key{1}, func() bool { return false }, k), SessionOptions{Encryption: NewBlockKeyEncryption(k)},
	} {
		texts := []string{}
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
		for _, handler := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).Info("x", "v", v)
			texts = append(texts, b.String())
		}
		if b, err := json.Marshal(v); err == nil {
			texts = append(texts, string(b))
		}
		for _, text := range texts {
			for _, secret := range [][]byte{k[:4], derived[:4]} {
				decimal := strings.Trim(fmt.Sprint(secret), "[]")
				for _, s := range []string{hex.EncodeToString(secret), decimal, strings.ReplaceAll(decimal, " ", ","), k.Text()[:8]} {
					if strings.Contains(strings.ToLower(text), s) {
						t.Errorf("%T shows its key: %s", v, text)
					}
				}
			}
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	f.Add(uint64(0), uint64(0), []byte{})
	f.Add(uint64(1), uint64(2), []byte{1, 2, 3, 4, 9, 0, 0, 0, 5})
	f.Add(uint64(math.MaxUint64), uint64(1), []byte{0, 2, 3, 4, 9, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, index, fork uint64, stored []byte) {
		for name, e := range someEncryptions() {
			block, err := e.Decrypt(index, bytes.Clone(stored))
			if err != nil {
				if !errors.Is(err, ErrDecrypt) {
					t.Fatalf("%s: %v, want ErrDecrypt", name, err)
				}
			} else if len(block)+int(e.Padding()) != len(stored) {
				t.Fatalf("%s: %d bytes give %d", name, len(stored), len(block))
			}
			again, err := e.Encrypt(index, fork, stored)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := e.Decrypt(index, again); err != nil || !bytes.Equal(got, stored) {
				t.Fatalf("%s: got %x, %v, want %x", name, got, err, stored)
			}
		}
	})
}

func FuzzParseEncryptionKey(f *testing.F) {
	f.Add(EncryptionKey{1, 2}.Text())
	f.Add("3109ef075208e511e072ff6d29764ee50b691c1d7d72cf5187b7247b98128078")
	f.Add("pear://grr66b41bd1tdad197s1171qhwfs18y7xi3c6wc8sh18zgy1obhy/abcd")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseEncryptionKey(text)
		if err != nil {
			if !errors.Is(err, ErrMalformedKey) {
				t.Fatalf("ParseEncryptionKey(%q): %v", text, err)
			}
			return
		}
		if again, err := ParseEncryptionKey(k.Text()); err != nil || again != k {
			t.Fatalf("ParseEncryptionKey(%q) does not come back: %v", text, err)
		}
	})
}

func BenchmarkEncryption(b *testing.B) {
	all := someEncryptions()
	for _, name := range []string{"block", "hypercore"} {
		e := all[name]
		for _, size := range []int{1 << 10, 64 << 10} {
			block := make([]byte, size)
			stored, err := e.Encrypt(7, 1, block)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/encrypt/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					_, _ = e.Encrypt(7, 1, block)
				}
			})
			b.Run(fmt.Sprintf("%s/decrypt/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					_, _ = e.Decrypt(7, stored) // back and forth: the padding stays
				}
			})
		}
	}
}
