package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// parallelScripts is how many scripts run at once, whatever the number of processors: they mostly wait.
const parallelScripts = 4

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(parallelScripts)); err != nil { // -parallel on the command line is read later
		panic(err)
	}
	testscript.Main(m, map[string]func(){"p2pcore": main, "http": httpMain, "damage": damageMain})
}

// scriptPatience bounds every wait of a script; to reach it is a failure.
const scriptPatience = 2 * time.Minute

// TestScripts runs testdata/*.txt. On top of testscript's own commands there are:
//
//	code N p2pcore ARGS…     run to the end and want exit code N; stdout and stderr are left for "stdout" and "stderr"
//	start NAME ARGS…         run p2pcore in the background
//	expect NAME REGEX [VAR]  wait for a line of its stdout, and keep the first group, or the line, in $VAR
//	hint NAME REGEX          the same for stderr
//	signal NAME int|kill     send a signal
//	finish NAME N            wait for its end and want exit code N
//	daemon ARGS…             in testdata/both, which runs twice: the second time start a daemon on the store, and wait for it
//	json VAR FIELD           keep a field of the last stdout, one JSON object, in $VAR
//	tiny N ARGS…             run p2pcore with its store on a filesystem of 64 MB, and want exit code N
//	refuser KIND VAR         start a peer that refuses, and keep its address in $VAR; see scriptRefuser
//	keep VAR REGEX           keep the first group, or the whole, of what matches in the last stdout, in $VAR
//
// A script in testdata/both also leaves $MODE, "alone" or "daemon", and the process "daemon" is killed at its end.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scripts("testdata", "alone"))
}

func TestScriptsOnceAloneAndOnceThroughADaemon(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"alone", "daemon"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, scripts("testdata/both", mode))
		})
	}
}

func scripts(dir, mode string) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Values["processes"] = make(map[string]*process)
			env.Setenv("MODE", mode)
			env.Setenv("P2PCORE_NETWORK", "none")
			env.Setenv("P2PCORE_MDNS", "false")
			env.Setenv("P2PCORE_LISTEN", "/ip4/127.0.0.1/tcp/0")
			// A program under the race detector sleeps for a second when it ends, unless told not to.
			env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_DATA_HOME", "")
			env.Setenv("XDG_RUNTIME_DIR", "")
			env.Setenv("XDG_CONFIG_HOME", "")
			env.Setenv("P2PCORE_STORE", filepath.Join(env.WorkDir, "s"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "start": scriptStart, "expect": scriptExpect, "hint": scriptHint,
			"signal": scriptSignal, "finish": scriptFinish, "json": scriptJSON, "keep": scriptKeep, "daemon": scriptDaemon,
			"size": scriptSize, "mode": scriptMode, "refuser": scriptRefuser, "tiny": scriptTiny,
		},
	}
}

// process is a p2pcore in the background.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *lines
	ended          chan struct{}
}

// lines collects output and wakes whoever waits for a line.
type lines struct {
	mu   sync.Mutex
	more chan struct{} // closed, and replaced, by every line and by the end
	all  []string
	done bool
}

func (l *lines) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		l.mu.Lock()
		if line != "" {
			l.all = append(l.all, strings.TrimSuffix(line, "\n"))
		}
		l.done = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns the first match of re in a line.
func (l *lines) wait(re *regexp.Regexp) ([]string, error) {
	limit := time.NewTimer(scriptPatience)
	defer limit.Stop()
	for next := 0; ; {
		l.mu.Lock()
		for ; next < len(l.all); next++ {
			if m := re.FindStringSubmatch(l.all[next]); m != nil {
				l.mu.Unlock()
				return m, nil
			}
		}
		more, done := l.more, l.done
		l.mu.Unlock()
		if done {
			return nil, fmt.Errorf("the process ended without a line that matches %s", re)
		}
		select {
		case <-more:
		case <-limit.C:
			return nil, fmt.Errorf("no line matches %s", re)
		}
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if args[1] == "p2pcore" {
		checkOutput(ts, args[2:], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// checkOutput wants JSON to be what printedBy and asides say.
func checkOutput(ts *testscript.TestScript, args []string, stdout, stderr string) {
	if wrong := checkLines(args, stdout); wrong != "" {
		ts.Fatalf("p2pcore %s is not to print %s", args[0], wrong)
	}
	if wrong := checkAsides(args, stderr); wrong != "" {
		ts.Fatalf("p2pcore %s is not to print to stderr %s", args[0], wrong)
	}
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value("processes").(map[string]*process)
}

func named(ts *testscript.TestScript, name string) *process {
	p := processes(ts)[name]
	if p == nil {
		ts.Fatalf("no process %q", name)
	}
	return p
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARGS…")
	}
	path, err := exec.LookPath("p2pcore")
	ts.Check(err)
	p := &process{cmd: exec.Command(path, args[1:]...), ended: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"P2PCORE_NETWORK", "P2PCORE_MDNS", "P2PCORE_LISTEN", "P2PCORE_STORE", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "P2PCORE_CONFIG", "PATH", "TMPDIR", "GORACE"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	stdout, err := p.cmd.StdoutPipe()
	ts.Check(err)
	stderr, err := p.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	p.stdout, p.stderr = &lines{more: make(chan struct{})}, &lines{more: make(chan struct{})}
	var read sync.WaitGroup
	read.Add(2)
	go func() { defer read.Done(); p.stdout.read(stdout) }()
	go func() { defer read.Done(); p.stderr.read(stderr) }()
	go func() {
		read.Wait()
		p.cmd.Wait()
		close(p.ended)
	}()
	processes(ts)[args[0]] = p
	ts.Defer(func() {
		p.cmd.Process.Kill()
		<-p.ended
		ts.Logf("[%s stdout]\n%s\n[%s stderr]\n%s", args[0], p.stdout, args[0], p.stderr)
	})
}

func scriptDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if ts.Getenv("MODE") != "daemon" {
		return
	}
	scriptStart(ts, neg, append([]string{"daemon", "daemon", "--api", "none"}, args...))
	scriptExpect(ts, neg, []string{"daemon", "^ready$"})
}

func scriptExpect(ts *testscript.TestScript, neg bool, args []string) {
	waitLine(ts, args, func(p *process) *lines { return p.stdout })
}

func scriptHint(ts *testscript.TestScript, neg bool, args []string) {
	waitLine(ts, args, func(p *process) *lines { return p.stderr })
}

func waitLine(ts *testscript.TestScript, args []string, of func(*process) *lines) {
	if len(args) < 2 {
		ts.Fatalf("usage: expect NAME REGEX [VAR]")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	m, err := of(named(ts, args[0])).wait(re)
	ts.Check(err)
	if len(args) > 2 {
		ts.Setenv(args[2], m[len(m)-1])
	}
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	sig := map[string]os.Signal{"int": os.Interrupt, "kill": os.Kill, "term": syscall.SIGTERM}[args[1]]
	ts.Check(named(ts, args[0]).cmd.Process.Signal(sig))
}

func scriptFinish(ts *testscript.TestScript, neg bool, args []string) {
	p := named(ts, args[0])
	limit := time.NewTimer(scriptPatience)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		ts.Fatalf("%s does not end", args[0])
	}
	if got := strconv.Itoa(p.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s, want %s", args[0], got, args[1])
	}
	checkOutput(ts, p.cmd.Args[1:], p.stdout.String(), p.stderr.String())
}

func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile(`"` + regexp.QuoteMeta(args[1]) + `":\[?"?([^",\]}]*)`)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no field %q", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func scriptKeep(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no match for %s", args[1])
	}
	ts.Setenv(args[0], m[len(m)-1])
}

// scriptTiny runs p2pcore in a mount namespace of its own, with which the filesystem goes. Who may not mount does so in a
// user namespace.
func scriptTiny(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tiny N ARGS…")
	}
	ts.Check(os.MkdirAll(ts.MkAbs("tiny"), 0o700))
	unshare := []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	command := `mount -t tmpfs -o size=64m tmpfs tiny || exit 99; exec p2pcore "$@" --store tiny/s`
	scriptCode(ts, neg, append(append([]string{args[0], "unshare"}, unshare...), append([]string{"sh", "-c", command, "sh"}, args[1:]...)...))
}

// scriptSize wants a file of so many bytes: size FILE N.
func scriptSize(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatInt(info.Size(), 10); got != args[1] {
		ts.Fatalf("%s has %s bytes, want %s", args[0], got, args[1])
	}
}

// scriptMode wants the permissions of a file: mode FILE OCTAL.
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatInt(int64(info.Mode().Perm()), 8); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}
