// Package output writes what a command has to say: results to stdout, everything else to stderr.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/p2pcore/p2pcore/node/api"
)

// Mode is how progress is shown.
type Mode string

// The modes of --progress; auto becomes Bar or None.
const (
	Auto  Mode = "auto"
	Bar   Mode = "bar"
	Plain Mode = "plain"
	JSON  Mode = "json"
	None  Mode = "none"
)

// ParseMode reads the value of --progress. terminal tells whether stderr is one.
func ParseMode(s string, terminal bool) (Mode, error) {
	switch m := Mode(s); m {
	case Plain, JSON, None:
		return m, nil
	case Auto:
		if terminal {
			return Bar, nil
		}
		return None, nil
	}
	return "", api.Errorf(api.CodeUsage, "--progress %q: want auto, plain, json or none", s)
}

const (
	plainInterval = 2 * time.Second
	barInterval   = 100 * time.Millisecond
)

// Out is a command's output. It is safe for concurrent use.
type Out struct {
	Stdout, Stderr io.Writer
	JSON           bool // results as JSON
	Quiet          bool
	Progress       Mode

	mu    sync.Mutex // of writes to Stderr
	bar   bool       // a bar stands in the last line
	shown time.Time  // of the last progress
}

// Object writes a result: v as one line of JSON with --json, else text.
func (o *Out) Object(v any, text string) error { return o.objectTo(o.Stdout, v, text) }

// ObjectAside is Object for commands whose stdout holds content.
func (o *Out) ObjectAside(v any, text string) error {
	o.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Quiet && !o.JSON {
		return nil
	}
	if o.Progress == JSON && !o.JSON {
		return o.json(ResultLine{Event: "result", Result: v})
	}
	return o.objectTo(o.Stderr, v, text)
}

func (o *Out) objectTo(w io.Writer, v any, text string) error {
	if !o.JSON {
		_, err := fmt.Fprintln(w, text)
		return err
	}
	return writeJSON(w, v)
}

// writeJSON writes one line. Links keep their ampersands: nobody reads them as HTML.
func writeJSON(w io.Writer, v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(line.Bytes())
	return err
}

// Note writes a hint to stderr.
func (o *Out) Note(format string, args ...any) {
	if o.Quiet {
		return
	}
	message := fmt.Sprintf(format, args...)
	o.aside(NoteLine{Event: "note", Message: message}, message)
}

// Waiting writes what a command is waiting for.
func (o *Out) Waiting(reason, message string) {
	if o.Quiet {
		return
	}
	o.aside(WaitingLine{Event: "waiting", Message: message, Reason: reason}, "waiting: "+message)
}

// Fail writes a command's error: one line.
func (o *Out) Fail(p *api.Problem) {
	line := strings.Join(strings.Fields(p.Detail), " ")
	o.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Progress != JSON && !o.JSON {
		fmt.Fprintln(o.Stderr, "p2pcore: "+line)
		return
	}
	o.json(ErrorLine{Error: p.Code.String(), Event: "error", Exit: int(p.Code), Message: line, Reason: p.Reason})
}

func (o *Out) aside(object any, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clear()
	if o.Progress == JSON {
		o.json(object)
		return
	}
	fmt.Fprintln(o.Stderr, strings.Join(strings.Fields(text), " "))
}

// json writes a line; mu is held.
func (o *Out) json(v any) error { return writeJSON(o.Stderr, v) }

// clear removes the bar; mu is held.
func (o *Out) clear() {
	if o.bar {
		fmt.Fprint(o.Stderr, "\r\x1b[K")
		o.bar = false
	}
}

// Show shows progress. what names the unit: "blocks". The last state of a command is shown with final set.
func (o *Out) Show(what string, e api.Event, final bool) {
	if o.Quiet && o.Progress != JSON {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	switch o.Progress {
	case JSON:
		o.json(ProgressLine{Event: "progress", Done: e.Done, Total: e.Total, Bytes: e.Bytes, Peers: e.Peers, Rate: e.Rate})
	case Plain:
		if !final && now.Sub(o.shown) < plainInterval {
			return
		}
		fmt.Fprintln(o.Stderr, progressText(what, e))
	case Bar:
		if !final && now.Sub(o.shown) < barInterval {
			return
		}
		fmt.Fprintf(o.Stderr, "\r\x1b[K%s %s", drawBar(e.Done, e.Total), progressText(what, e))
		o.bar = true
	}
	o.shown = now
}

// Done ends the bar's line, so that what follows has its own.
func (o *Out) Done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bar {
		fmt.Fprintln(o.Stderr)
		o.bar = false
	}
}

const barCells = 24

func drawBar(done, total uint64) string {
	filled := 0
	if total > 0 {
		filled = int(min(done, total) * barCells / total)
	}
	return "[" + strings.Repeat("█", filled) + strings.Repeat("·", barCells-filled) + "]"
}

func progressText(what string, e api.Event) string {
	s := fmt.Sprintf("%d/%d %s", e.Done, e.Total, what)
	if e.Bytes > 0 {
		s += "  " + Bytes(e.Bytes)
	}
	if e.Rate > 0 {
		s += "  " + Bytes(uint64(e.Rate)) + "/s"
	}
	return fmt.Sprintf("%s  %d peer(s)", s, e.Peers)
}

// Bytes formats a size for people.
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exp := float64(n)/unit, 0
	for ; value >= unit && exp < 5; exp++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[exp])
}
