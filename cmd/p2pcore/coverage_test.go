package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/node/api"
)

// noStore are the commands that use no store, or are the process that holds it, so that there is no second way for them.
var noStore = []string{
	"daemon", "bootstrap", "version", "config show", "config validate",
	"completion bash", "completion fish", "completion powershell", "completion zsh",
}

// invocation is p2pcore in a script: after code, on a small disk, in the background, or through testscript's own exec.
var invocation = regexp.MustCompile(`^(?:code ([0-9]+) p2pcore|tiny ([0-9]+)|start [a-z0-9]+|!? ?exec p2pcore) (.*)$`)

// ending is the end of a process in the background.
var ending = regexp.MustCompile(`^finish [a-z0-9]+ ([0-9]+)$`)

// TestScriptsCoverCommandsAndExitCodes: there is for each command a script that runs it alone and through a daemon, and for
// each exit code one that provokes it.
func TestScriptsCoverCommandsAndExitCodes(t *testing.T) {
	t.Parallel()
	root := newApp(strings.NewReader(""), io.Discard, io.Discard).root
	root.InitDefaultCompletionCmd()
	all := leaves("", root)
	once, twice, codes := make(map[string]bool), make(map[string]bool), make(map[api.Code]bool)
	for dir, covered := range map[string]map[string]bool{"testdata": once, "testdata/both": twice} {
		files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no scripts in %s: %v", dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				line = strings.TrimSpace(line)
				if m := ending.FindStringSubmatch(line); m != nil {
					note(t, codes, m[1])
				}
				m := invocation.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				if code := m[1] + m[2]; code != "" {
					note(t, codes, code)
				}
				for _, name := range all {
					if m[3] == name || strings.HasPrefix(m[3], name+" ") {
						covered[name] = true
					}
				}
			}
		}
	}
	for _, name := range all {
		switch alone := slices.Contains(noStore, name); {
		case alone && !once[name]:
			t.Errorf("no script in testdata runs p2pcore %s", name)
		case !alone && !twice[name]:
			t.Errorf("no script in testdata/both runs p2pcore %s, with and without a daemon", name)
		}
	}
	for code := api.CodeOK; code <= api.CodeInterrupted; code++ {
		if named := code.String() != "exit-"+strconv.Itoa(int(code)); named && !codes[code] {
			t.Errorf("no script provokes exit code %d, %s", code, code)
		}
	}
}

func note(t *testing.T, codes map[api.Code]bool, text string) {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	codes[api.Code(n)] = true
}

// leaves are the commands that a user can run, by their words.
func leaves(prefix string, cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		switch {
		case sub.Hidden || sub.Name() == "help":
		case sub.HasSubCommands():
			names = append(names, leaves(prefix+sub.Name()+" ", sub)...)
		default:
			names = append(names, prefix+sub.Name())
		}
	}
	return names
}
