package feed

import (
	"errors"
	"testing"
	"time"
)

func TestTypedValues(t *testing.T) {
	type event struct {
		Name string
		N    int
	}
	ctx := t.Context()
	_, s := writer(t, memoryStore(), 0)
	log := NewTyped(s, JSON[event]{})
	if info, err := log.Append(ctx, event{"a", 1}, event{"b", 2}); err != nil || info.Length != 2 {
		t.Fatalf("append: %+v, %v", info, err)
	}
	if v, err := log.Get(ctx, 1); err != nil || v != (event{"b", 2}) {
		t.Errorf("get: %+v, %v", v, err)
	}
	appendBlocks(t, s, []byte("no JSON"))
	if _, err := log.Get(ctx, 2); !errors.Is(err, ErrDecode) {
		t.Errorf("get what cannot be decoded: %v", err)
	}
	n, bad := 0, 0
	for v, err := range log.Values(ctx, Range{End: 3}, ReadOptions{}) {
		if errors.Is(err, ErrDecode) {
			bad++
		} else if err != nil || v.N != n+1 {
			t.Errorf("value %d: %+v, %v", n, v, err)
		}
		n++
	}
	if n != 3 || bad != 1 {
		t.Errorf("%d values, %d of them not decoded", n, bad)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	times := NewTyped(s, Binary[time.Time, *time.Time]{})
	if _, err := times.Append(ctx, at); err != nil {
		t.Fatal(err)
	}
	if v, err := times.Get(ctx, 3); err != nil || !v.Equal(at) {
		t.Errorf("as a time: %v, %v", v, err)
	}
	if _, err := times.Get(ctx, 2); !errors.Is(err, ErrDecode) {
		t.Errorf("what is no time: %v", err)
	}
	text := NewTyped(s, Text{})
	if v, err := text.Get(ctx, 2); err != nil || v != "no JSON" {
		t.Errorf("as text: %q, %v", v, err)
	}
	if _, err := NewTyped(s, JSON[func()]{}).Append(ctx, func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
