package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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

// TestParityNamesTestsThatExist holds the table of docs/parity.md against the tests: each row has at least
// one, and each that it names is there.
func TestParityNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "parity.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := testNames(t)
	code := regexp.MustCompile("`((?:[a-z0-9]+\\.)?(?:Test|Example)\\w*)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		found := code.FindAllStringSubmatch(line, -1)
		for _, m := range found {
			name := m[1]
			if !strings.Contains(name, ".") {
				name = "feed." + name
			}
			if !names[name] {
				t.Errorf("there is no test %s", name)
			}
		}
		if row := strings.HasPrefix(line, "|"); row && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(line, "| Hypercore") {
			rows++
			if len(found) == 0 {
				t.Errorf("a row without a test: %s", strings.TrimSpace(line))
			}
		}
	}
	if rows < 60 {
		t.Errorf("%d rows", rows)
	}
}
