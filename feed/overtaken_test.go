package feed

import (
	"bytes"
	"testing"
)

// An answer whose upgrade has been overtaken by another one still brings its block: the upgrade is no longer than what the
// feed has, and its roots are the feed's (replication.md 7.2).
func TestABlockIsKeptWhoseUpgradeWasOvertaken(t *testing.T) {
	ctx := t.Context()
	for _, length := range []uint64{8, 9, 10} { // of the feed when the answer for 8 comes
		w, _ := writer(t, memoryStore(), 8)
		r := reader(t, memoryStore(), w)
		upgradeTo(t, r, 5)
		proved, err := w.Prove(ctx, []Request{{Block: &BlockRequest{Index: 7}, Upgrade: &UpgradeRequest{Start: 5, Length: 3}}})
		if err != nil || proved[0].Err != nil {
			t.Fatal(err, proved[0].Err)
		}
		upgradeTo(t, r, length)
		head := r.Info().Head
		applied, err := r.Apply(ctx, []*Proof{proved[0].Proof})
		if err != nil || applied[0].Err != nil || applied[0].Grown || !applied[0].Stored {
			t.Errorf("at length %d: %+v, %v", length, applied, err)
		}
		if got := r.Info().Head; got != head {
			t.Errorf("at length %d: head %+v, want %+v", length, got, head)
		}
		s := session(t, r)
		if b, err := s.GetLocal(ctx, 7); err != nil || !bytes.Equal(b, testBlock(7)) {
			t.Errorf("at length %d: block 7 is %q, %v", length, b, err)
		}
		if err := r.Check(ctx); err != nil {
			t.Error(err)
		}
	}
}
