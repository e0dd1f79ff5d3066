package replica

import (
	"errors"
	"strconv"
	"strings"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// args reads the words of a line.
type args struct {
	words []string
	err   error
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// word takes the first word that is left.
func (a *args) word() string {
	if len(a.words) == 0 {
		a.fail(errors.New("a word is missing"))
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) integer() uint64 {
	n, err := strconv.ParseUint(a.word(), 10, 64)
	a.fail(err)
	return n
}

// span takes a word like 3..7.
func (a *args) span() merkle.Range {
	rs := parseRanges(a.word(), a)
	if len(rs) != 1 {
		a.fail(errors.New("a range is missing"))
		return merkle.Range{}
	}
	return rs[0]
}

func parseRanges(s string, a *args) (rs []merkle.Range) {
	for _, part := range strings.Split(s, ",") {
		from, to, ok := strings.Cut(part, "..")
		start, err := strconv.ParseUint(from, 10, 64)
		a.fail(err)
		end := start + 1
		if ok {
			end, err = strconv.ParseUint(to, 10, 64)
			a.fail(err)
		}
		rs = append(rs, merkle.Range{Start: start, End: end})
	}
	return rs
}

// value takes the word key=value.
func (a *args) value(key string) (string, bool) {
	for i, w := range a.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return v, true
		}
	}
	return "", false
}

func (a *args) number(key string, def uint64) uint64 {
	v, ok := a.value(key)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	a.fail(err)
	return n
}

func (a *args) ranges(key string) []merkle.Range {
	v, ok := a.value(key)
	if !ok {
		return nil
	}
	return parseRanges(v, a)
}

func (a *args) pair(key, sep string) (x, y uint64, ok bool) {
	v, ok := a.value(key)
	if !ok {
		return 0, 0, false
	}
	first, second, found := strings.Cut(v, sep)
	x, err := strconv.ParseUint(first, 10, 64)
	a.fail(err)
	if found {
		y, err = strconv.ParseUint(second, 10, 64)
		a.fail(err)
	}
	return x, y, true
}

// has takes a flag word.
func (a *args) has(flag string) bool {
	for i, w := range a.words {
		if w == flag {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return true
		}
	}
	return false
}

// fault takes the name of a fault.
func (a *args) fault() (Fault, error) {
	for name, f := range map[string]Fault{"stale": FaultStale, "unavailable": FaultNotAvailable, "invalid": FaultInvalid,
		"contradicts": FaultContradicts, "failed": FaultFailed} {
		if a.has(name) {
			return f, errors.New(name)
		}
	}
	return FaultNone, nil
}
