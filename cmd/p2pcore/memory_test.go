package main

import (
	"math"
	"testing"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
)

func TestMemoryIsBoundedUnlessTheBoundLeavesTooLittle(t *testing.T) {
	for _, c := range []struct {
		cache, memory string
		wantCache     int64
		want          int64 // 0: an error
	}{
		{"32MiB", "256MiB", 32 << 20, 256 << 20},
		{"1MiB", "193MiB", 1 << 20, 193 << 20},
		{"1MiB", "192MiB", 0, 0},
		{"256MiB", "256MiB", 0, 0},
		{"1GiB", "2GiB", 1 << 30, 2 << 30},
		{"32MiB", "none", 32 << 20, math.MaxInt64},
		{"32MiB", "0", 0, 0},
		{"32MiB", "", 0, 0},
		{"0", "none", 0, 0},
		{"some", "none", 0, 0},
		{"-1MiB", "none", 0, 0},
		{"9223372036854775807KiB", "none", 0, 0},
	} {
		var d holder.Daemon
		got, err := memoryLimit(c.cache, c.memory, &d)
		if got != c.want || (err == nil) != (c.want > 0) || err == nil && d.CacheBytes != c.wantCache {
			t.Errorf("cache %q, memory %q: got %d with a cache of %d, %v; want %d with %d", c.cache, c.memory, got, d.CacheBytes, err, c.want, c.wantCache)
		}
	}
}
