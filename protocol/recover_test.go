package protocol

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// A writer from an old backup gets what its reader has seen, and appends only after the reader has agreed with
// it for eight seconds.
func TestAWriterFromABackupCatchesUpBeforeItAppends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		blocks := numbered(20, 10)
		mirror := writer(t, 1, blocks...) // has what the writer had published
		backup := writer(t, 1, blocks[:5]...)
		if err := backup.SetRecovering(ctx, true); err != nil {
			t.Fatal(err)
		}
		s := session(t, backup)
		defer s.Close()
		newRunner(t).connect([]*Exchange{exchange(t, backup, true)}, []*Exchange{exchange(t, mirror, false)})
		if _, err := s.Append(ctx, []byte("too early")); !errors.Is(err, feed.ErrRecovering) {
			t.Errorf("append in recovery: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := s.Recover(short, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("recovered after five seconds: %v", err)
		}
		more, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := s.Recover(more, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("recovered by one peer where two have to agree: %v", err)
		}
		start := time.Now()
		if err := s.Recover(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("recovered in %v", took)
		}
		if got, want := backup.Info().Head, mirror.Info().Head; got != want {
			t.Errorf("head %+v, want %+v", got, want)
		}
		if _, err := s.Append(ctx, []byte("now")); err != nil {
			t.Error(err)
		}
	})
}

// An encrypted feed is searched by offsets of its plain text, by a reader that has nothing and a peer that
// has no key.
func TestSeekOfAnEncryptedFeedOverTheNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := timed(t)
		w := writer(t, 1)
		secret := feed.SessionOptions{Encryption: feed.NewBlockEncryption(w.Key(), false, feed.EncryptionKey{3})}
		ws, err := w.Session(secret)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		if _, err := ws.Append(ctx, numbered(64, 10)...); err != nil {
			t.Fatal(err)
		}
		r := reader(t, w)
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{exchange(t, r, true)})
		rs, err := r.Session(secret)
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Close()
		if _, err := rs.Update(ctx); err != nil {
			t.Fatal(err)
		}
		for _, at := range []uint64{1, 100, 500, ws.Info().ByteLength - 1} {
			wi, wo, err := ws.Seek(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			ri, ro, err := rs.Seek(ctx, at)
			if err != nil || ri != wi || ro != wo {
				t.Errorf("byte %d: block %d offset %d, %v, want %d, %d", at, ri, ro, err, wi, wo)
			}
		}
		got, err := rs.Get(ctx, 7)
		if want := numbered(64, 10)[7]; err != nil || string(got) != string(want) {
			t.Errorf("block 7: %q, %v", got, err)
		}
	})
}
