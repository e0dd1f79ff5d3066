package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testNames are the test functions of the module, by package name: "feed.TestX".
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Example|Fuzz|Benchmark)\w*)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg := filepath.Base(filepath.Dir(path))
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			names[pkg+"."+m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestTablesNameTestsThatExist holds the tables of docs/parity.md, docs/replication.md and docs/corestore.md against the
// tests: each row has at least one, and each that it names is there.
func TestTablesNameTestsThatExist(t *testing.T) {
	names := testNames(t)
	code := regexp.MustCompile("`((?:[a-z0-9]+\\.)?(?:Test|Example|Fuzz)\\w*)`")
	for page, atLeast := range map[string]int{"parity.md": 60, "replication.md": 40, "corestore.md": 26} {
		text, err := os.ReadFile(filepath.Join("..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		rows, before := 0, ""
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "|---") { // what came before was the head of a table
				rows, before = rows-1, ""
			} else if before != "" && !code.MatchString(before) {
				t.Errorf("%s: a row without a test: %s", page, before)
			}
			for _, m := range code.FindAllStringSubmatch(line, -1) {
				name := m[1]
				if !strings.Contains(name, ".") {
					name = "feed." + name
				}
				if !names[name] {
					t.Errorf("%s: there is no test %s", page, name)
				}
			}
			before = ""
			if strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---") {
				rows, before = rows+1, strings.TrimSpace(line)
			}
		}
		if rows < atLeast {
			t.Errorf("%s: %d rows, want at least %d", page, rows, atLeast)
		}
	}
}

// TestCorestorePageShowsWhatIsCompiled holds the Go of docs/corestore.md, in its blocks and in the second column of its
// tables, against the bodies of examples.
func TestCorestorePageShowsWhatIsCompiled(t *testing.T) {
	var bodies []string
	body := regexp.MustCompile(`(?ms)^func Example\w*\(\) \{\n(.*?)^\}`)
	for _, pkg := range []string{"corestore", "node"} {
		files, err := filepath.Glob(filepath.Join("..", pkg, "example*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range body.FindAllStringSubmatch(string(text), -1) {
				bodies = append(bodies, unindented(m[1]))
			}
		}
	}
	page := filepath.Join("..", "docs", "corestore.md")
	shown := fenced(t, page, "go")
	if js := fenced(t, page, "js"); len(js) < 5 || len(shown) < len(js) {
		t.Errorf("%d blocks of Go beside %d of JavaScript", len(shown), len(js))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		columns := strings.Split(line, " | ")
		if len(columns) != 4 {
			t.Errorf("%d columns, want 4: %s", len(columns), line)
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(columns[1], -1) {
			shown = append(shown, m[1])
		}
	}
	for _, piece := range shown {
		if !slices.ContainsFunc(bodies, func(b string) bool { return strings.Contains(b, unindented(piece)) }) {
			t.Errorf("no example of corestore or node has\n%s", piece)
		}
	}
}

// unindented returns the lines of a text without what they begin with.
func unindented(text string) string {
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(text, "")
}
