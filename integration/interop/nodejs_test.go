package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// nodejs is one Node process that runs the JavaScript peer.
type nodejs struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ended  chan struct{} // closed when all answers have been read
	output lockedBuffer  // stdout and stderr

	mu      sync.Mutex
	next    int
	waiting map[int]chan answer
}

type answer struct {
	ID     int
	Result json.RawMessage
	Error  *jsError
}

// jsError is an error as JavaScript tells it.
type jsError struct {
	What, Name, Code, Message, Stack string
}

func (e *jsError) Error() string {
	if e.Stack != "" {
		return e.Stack
	}
	return e.Name + " " + e.Code + ": " + e.Message
}

var errEnded = errors.New("the Node process has ended")

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func startNode() (*nodejs, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &nodejs{ended: make(chan struct{}), waiting: make(map[int]chan answer)}
	p.cmd = exec.Command("node", filepath.Join("peer", "main.js"))
	p.cmd.Dir = javascript
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = &p.output, &p.output, []*os.File{w}
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go p.read(r)
	return p, nil
}

func (p *nodejs) read(r *os.File) {
	defer r.Close()
	defer close(p.ended)
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			fmt.Fprintf(&p.output, "answer %q: %v\n", line, err)
			return
		}
		p.mu.Lock()
		waiting := p.waiting[a.ID]
		delete(p.waiting, a.ID)
		p.mu.Unlock()
		waiting <- a
	}
}

// args are those of a request.
type args map[string]any

// call asks the process to do something. Calls overtake each other.
func (p *nodejs) call(ctx context.Context, name string, a args, result any) error {
	request := args{"do": name}
	for k, v := range a {
		request[k] = v
	}
	done := make(chan answer, 1)
	p.mu.Lock()
	p.next++
	request["id"] = p.next
	p.waiting[p.next] = done
	p.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, p.output.String())
	}
	select {
	case a := <-done:
		switch {
		case a.Error != nil:
			return fmt.Errorf("%s: %w", name, a.Error)
		case result != nil:
			return json.Unmarshal(a.Result, result)
		}
		return nil
	case <-p.ended:
		return fmt.Errorf("%s: %w\n%s", name, errEnded, p.output.String())
	case <-ctx.Done():
		return fmt.Errorf("%s %v: %w", name, a, ctx.Err())
	}
}

// end ends the process in order. It must have had no problem that nobody has asked for, and nothing to say.
func (p *nodejs) end() error {
	p.stdin.Close()
	<-p.ended
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("a Node process: %w\n%s", err, p.output.String())
	}
	for line := range strings.Lines(p.output.String()) {
		if !strings.HasPrefix(line, "[hypercore] conflict detected") {
			return fmt.Errorf("a Node process says: %s", p.output.String())
		}
	}
	return nil
}

// kill is kill -9.
func (p *nodejs) kill() {
	p.cmd.Process.Kill()
	p.stdin.Close()
	<-p.ended
	p.cmd.Wait()
}

// pool lends Node processes. A process serves one scenario at a time and is given back when that has ended without a
// problem.
type pool struct {
	mu      sync.Mutex
	idle    []*nodejs
	started int
}

var processes pool

func (p *pool) take() (*nodejs, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		last := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return last, nil
	}
	p.started++
	return startNode()
}

func (p *pool) give(n *nodejs) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, n)
}

func (p *pool) end() error {
	var errs []error
	for _, n := range p.idle {
		errs = append(errs, n.end())
	}
	return errors.Join(errs...)
}
