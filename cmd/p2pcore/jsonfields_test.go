package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/output"
	"github.com/p2pcore/p2pcore/node/api"
)

// printedBy is what a command prints on stdout with --json; nothing for those that print a shell's script. checkLines
// holds it to what comes when the scripts run.
var printedBy = map[string][]any{
	"append":                {api.Appended{}},
	"block":                 {api.BlockLine{}},
	"bootstrap":             {api.Identity{}},
	"cat":                   {api.BlockLine{}},
	"check":                 {api.Checked{}},
	"clear":                 {api.Freed{}},
	"completion bash":       {},
	"completion fish":       {},
	"completion powershell": {},
	"completion zsh":        {},
	"config show":           {shown{}},
	"config validate":       {validated{}},
	"create":                {api.CoreInfo{}},
	"daemon":                {api.Ready{}},
	"get":                   {fetched{}},
	"id":                    {api.Identity{}},
	"info":                  {api.CoreInfo{}},
	"key":                   {api.CoreKey{}, api.CoreInfo{}}, // the second with --forget
	"ls":                    {api.CoreInfo{}},
	"peers":                 {api.PeerEntry{}},
	"prove":                 {proven{}},
	"purge":                 {api.Removal{}},
	"replicate":             {replicated{}},
	"rm":                    {api.Removal{}},
	"seed":                  {api.CoreInfo{}},
	"share":                 {api.Shared{}},
	"status":                {api.Status{}},
	"sync":                  {synced{}},
	"tail":                  {api.BlockLine{}},
	"truncate":              {api.Freed{}},
	"unseed":                {api.CoreInfo{}},
	"verify":                {api.Audit{}},
	"version":               {release{}},
}

// asides is what any command prints on stderr with --progress json, by the value of "event".
var asides = map[string]any{
	"error":    output.ErrorLine{},
	"note":     output.NoteLine{},
	"progress": output.ProgressLine{},
	"result": struct { // of get -o -, the only command with a result there
		Event  string  `json:"event"`
		Result fetched `json:"result"`
	}{},
	"waiting": output.WaitingLine{},
}

// neverPrinted are fields that the printed types have for another use.
var neverPrinted = map[string]string{
	"api.CoreKey.Replace": "of requests alone",
}

// TestScriptsCheckEveryField: for each field of each command's JSON there is a script that says what its value is. A
// field that may be left out is wanted of one of the commands that print its type; any other of each of them.
func TestScriptsCheckEveryField(t *testing.T) {
	t.Parallel()
	root := newApp(strings.NewReader(""), io.Discard, io.Discard).root
	root.InitDefaultCompletionCmd()
	for _, name := range leaves("", root) {
		if _, known := printedBy[name]; !known {
			t.Errorf("what does p2pcore %s print with --json?", name)
		}
	}
	checked := assertions(t)
	want := maps.Clone(printedBy)
	for event, line := range asides {
		want["event "+event] = []any{line}
	}
	optional := make(map[string]bool) // whether a field that may be left out is checked
	for _, name := range slices.Sorted(maps.Keys(want)) {
		for _, v := range want[name] {
			for _, f := range leafFields(reflect.TypeOf(v), "") {
				switch seen := checked[name][f.path]; {
				case f.optional:
					optional[f.name] = optional[f.name] || seen
				case !seen:
					t.Errorf("%s: no script checks %q, which is %s", name, f.path, f.name)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(optional)) {
		if neverPrinted[name] == "" && !optional[name] {
			t.Errorf("no script checks %s, of any command that prints it", name)
		}
	}
	for name := range neverPrinted {
		if seen, known := optional[name]; seen || !known {
			t.Errorf("%s needs no exception", name)
		}
	}
}

// leafField is a field of printed JSON that holds no object itself.
type leafField struct {
	path     string // "node.network"; elements of an array have the path of the array
	name     string // "api.NodeShape.Network"
	optional bool
}

// leafFields lists the fields of a struct, and of those in it. Prefix is the path to it.
func leafFields(t reflect.Type, prefix string) (fields []leafField) {
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !inner.Implements(reflect.TypeFor[json.Marshaler]()) {
			fields = append(fields, leafFields(inner, prefix+name+".")...)
			continue
		}
		fields = append(fields, leafField{prefix + name, t.String() + "." + f.Name, options == "omitempty"})
	}
	return fields
}

// claim is a line of a script that says something of the output: of the last command, or of a named process.
var claim = regexp.MustCompile(`^(?:(stdout|stderr)(?: -count=[0-9]+)?|(expect|hint) ([a-z0-9]+)) (.*)$`)

// background is a line that starts a process.
var background = regexp.MustCompile(`^start ([a-z0-9]+) `)

// assertions are the paths of fields whose values the scripts check, by command, and by "event NAME" for lines of stderr.
func assertions(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	both, errBoth := filepath.Glob("testdata/both/*.txt")
	if err != nil || errBoth != nil || len(files) == 0 || len(both) == 0 {
		t.Fatalf("no scripts: %v, %v", err, errBoth)
	}
	checked := make(map[string]map[string]bool)
	for _, file := range append(files, both...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		last, running := "", make(map[string]string)
		for line := range strings.Lines(string(text)) {
			if m := invocation.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				last = commandOf(m[3])
				if b := background.FindStringSubmatch(line); b != nil {
					running[b[1]] = last
				}
				continue
			}
			if strings.HasPrefix(line, "exec ") {
				last = ""
			}
			m := claim.FindStringSubmatch(strings.TrimSpace(line))
			if m == nil {
				continue
			}
			name, pattern := last, m[4]
			switch {
			case m[1] == "stderr" || m[2] == "hint":
				_, event, _ := strings.Cut(pattern, `"event":"`)
				event, _, _ = strings.Cut(event, `"`)
				name = "event " + event
			case m[2] == "expect":
				name = running[m[3]]
			}
			if checked[name] == nil {
				checked[name] = make(map[string]bool)
			}
			for _, path := range pathsIn(pattern) {
				checked[name][path] = true
			}
		}
	}
	return checked
}

// commandOf is the command at the beginning of a command line; empty if there is none that printedBy knows.
func commandOf(line string) string {
	for name := range printedBy {
		if line == name || strings.HasPrefix(line, name+" ") {
			return name
		}
	}
	return ""
}

var (
	// notJSON is what a regular expression has and the JSON that it matches does not: how often, and escapes.
	notJSON = regexp.MustCompile(`\{[0-9]+(,[0-9]*)?\}|[\\']`)
	// jsonPart is the name of a field, with the beginning of an object or of an array of them, or a brace.
	jsonPart = regexp.MustCompile(`"([A-Za-z]+)":(\[?\{)?|[{}]`)
	// anything is what follows the name of a field whose value is left open.
	anything = regexp.MustCompile(`^(?:\[?\.|\[\^|$)`)
)

// pathsIn lists the fields whose values a regular expression for a line of JSON tells. That any value may follow
// does not count.
func pathsIn(pattern string) (paths []string) {
	pattern = notJSON.ReplaceAllString(pattern, "")
	var around []string // the fields whose objects are open, each with a dot; empty for the line itself
	for _, at := range jsonPart.FindAllStringSubmatchIndex(pattern, -1) {
		switch part := pattern[at[0]:at[1]]; {
		case part == "{":
			around = append(around, "")
		case part == "}":
			around = around[:max(len(around)-1, 0)]
		case at[4] >= 0:
			around = append(around, pattern[at[2]:at[3]]+".")
		default:
			if !anything.MatchString(pattern[at[1]:]) {
				paths = append(paths, strings.Join(around, "")+pattern[at[2]:at[3]])
			}
		}
	}
	return paths
}

// TestPathsIn: what counts as the check of a field.
func TestPathsIn(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][]string{
		`'^{"key":"[0-9a-f]{64}","id":"'$ID'"}$'`:                 {"key", "id"},
		`'"node":{"network":"none".*},"ready":true'`:              {"node.network", "ready"},
		`'"cores":\[{"id":"a","length":1}\],"addrs":\["/ip4/127'`: {"cores.id", "cores.length", "addrs"},
		`'"length":.*"fork":[^,]*,"addrs":\[.*\],"peers":'`:       nil,
		`'ok +true'`: nil,
		`'{"event":"result","result":{"length":1},"seeding":(true|no)}'`: {"event", "result.length", "seeding"},
	} {
		if got := pathsIn(pattern); !slices.Equal(got, want) {
			t.Errorf("%s checks %v, want %v", pattern, got, want)
		}
	}
}

// checkLines returns the first line of out that is not what the command prints with --json, as printedBy has it:
// field by field, in their order, and none besides. With get -o - that is content.
func checkLines(args []string, out string) (wrong string) {
	types := printedBy[commandOf(strings.Join(args, " "))]
	content := args[0] == "get" && slices.Contains(args, "-")
	if len(types) == 0 || content || !slices.Contains(args, "--json") {
		return ""
	}
	for line := range strings.Lines(out) {
		if !slices.ContainsFunc(types, func(v any) bool { return encodes(v, line) }) {
			return line
		}
	}
	return ""
}

// checkAsides is checkLines for stderr with --progress json, and asides.
func checkAsides(args []string, out string) (wrong string) {
	if !strings.Contains(strings.Join(args, " "), "--progress json") {
		return ""
	}
	for line := range strings.Lines(out) {
		var e struct{ Event string }
		if json.Unmarshal([]byte(line), &e) != nil || asides[e.Event] == nil || !encodes(asides[e.Event], line) {
			return line
		}
	}
	return ""
}

// encodes tells whether a line is the JSON of some value of v's type.
func encodes(v any, line string) bool {
	value := reflect.New(reflect.TypeOf(v))
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	d.DisallowUnknownFields()
	if d.Decode(value.Interface()) != nil {
		return false
	}
	var again bytes.Buffer
	e := json.NewEncoder(&again)
	e.SetEscapeHTML(false)
	return e.Encode(value.Interface()) == nil && strings.TrimSpace(again.String()) == strings.TrimSpace(line)
}
