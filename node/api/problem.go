package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"syscall"

	"github.com/p2pcore/p2pcore/feed"
)

// Code is the kind of an error: the exit code that a command ends with, and its name in JSON.
type Code int

// The codes of the command line. Other programs rely on the numbers and on the names.
const (
	CodeOK           Code = 0
	CodeError        Code = 1 // everything without a code of its own
	CodeUsage        Code = 2
	CodePartial      Code = 3  // some of several things failed, or a range went past the end
	CodeNoStore      Code = 10 // the store does not exist and is only read
	CodeLocked       Code = 11 // another process holds the store and does not answer
	CodeUnknownKey   Code = 12 // no such feed, or a malformed key
	CodeNotWritable  Code = 13
	CodeVerification Code = 14
	CodeNoPeers      Code = 20
	CodeTimeout      Code = 21
	CodeDenied       Code = 22
	CodeDiskFull     Code = 30
	CodeInterrupted  Code = 130
)

// codes names each code and gives its HTTP status.
var codes = map[Code]struct {
	name   string
	status int
}{
	CodeOK:           {"ok", http.StatusOK},
	CodeError:        {"error", http.StatusInternalServerError},
	CodeUsage:        {"usage", http.StatusBadRequest},
	CodePartial:      {"partial", http.StatusRequestedRangeNotSatisfiable},
	CodeNoStore:      {"no-store", http.StatusNotFound},
	CodeLocked:       {"store-locked", http.StatusServiceUnavailable},
	CodeUnknownKey:   {"unknown-key", http.StatusNotFound},
	CodeNotWritable:  {"not-writable", http.StatusForbidden},
	CodeVerification: {"verification-failed", http.StatusInternalServerError},
	CodeNoPeers:      {"no-peers", http.StatusServiceUnavailable},
	CodeTimeout:      {"timeout", http.StatusGatewayTimeout},
	CodeDenied:       {"denied", http.StatusForbidden},
	CodeDiskFull:     {"disk-full", http.StatusInsufficientStorage},
	CodeInterrupted:  {"interrupted", http.StatusServiceUnavailable},
}

// String returns the code's name, such as "unknown-key".
func (c Code) String() string {
	if d, ok := codes[c]; ok {
		return d.name
	}
	return fmt.Sprintf("exit-%d", int(c))
}

// Problem is an error as it travels: the body of application/problem+json (RFC 9457), and the value of
// an "error" event in a stream. As a Go error its text is the detail alone.
type Problem struct {
	Title  string `json:"title"`            // the code's name
	Status int    `json:"status"`           // HTTP status
	Detail string `json:"detail"`           // one line: what, why and what to do
	Code   Code   `json:"exit"`             // exit code of a command that meets this problem
	Reason string `json:"reason,omitempty"` // what a wait was for: no-peers, no-network, no-data, denied
	Length uint64 `json:"length,omitempty"` // of the feed, where an append stopped half-way
}

func (p *Problem) Error() string { return p.Detail }

// Errorf makes a problem with a code. Like fmt.Errorf, but nothing is wrapped: a problem has to
// survive a socket.
func Errorf(c Code, format string, args ...any) *Problem {
	return &Problem{Title: c.String(), Status: codes[c].status, Detail: fmt.Sprintf(format, args...), Code: c}
}

// status replaces the HTTP status, for problems that the code does not tell apart.
func (p *Problem) status(s int) *Problem { p.Status = s; return p }

// ProblemOf turns any error into the problem that it is to the caller.
func ProblemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	code, text := CodeError, packagePrefix.ReplaceAllString(err.Error(), "$1")
	switch {
	case errors.Is(err, feed.ErrNoSpace):
		return Errorf(CodeDiskFull, "%s; free some space on the store's disk and try again", text)
	case errors.Is(err, syscall.ENOSPC):
		return Errorf(CodeDiskFull, "%s; free some space there and try again", text)
	case errors.Is(err, feed.ErrClosed):
		return Errorf(CodeUnknownKey, "the feed has left this store: it was removed, or deleted, meanwhile")
	case errors.Is(err, feed.ErrMalformedKey):
		code = CodeUnknownKey
	case errors.Is(err, feed.ErrNotWritable):
		code = CodeNotWritable
	case errors.Is(err, feed.ErrFrozen), errors.Is(err, feed.ErrCorrupt), errors.Is(err, feed.ErrInvalidProof),
		errors.Is(err, feed.ErrInvalidChecksum), errors.Is(err, feed.ErrInvalidSignature):
		code = CodeVerification
	case errors.Is(err, context.DeadlineExceeded):
		code = CodeTimeout
	case errors.Is(err, context.Canceled):
		code = CodeInterrupted
	}
	return Errorf(code, "%s", text)
}

// packagePrefix is where an error says which Go package it comes from. That is nothing to its reader.
var packagePrefix = regexp.MustCompile(`(^|: )(?:api|corestore|dht|disk|feed|node|protocol): `)

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
