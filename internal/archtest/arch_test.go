package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// thisModule parses the module that the test belongs to.
func thisModule(t *testing.T) *module {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
		t.Fatalf("%s does not hold the module %s", root, modulePath)
	}
	m, err := loadModule(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	// A walk that finds nothing would pass every test.
	if !slices.Contains(m.packages(), "/internal/archtest") || !slices.Contains(m.packages(), "/internal/lifecycle") {
		t.Fatalf("packages found: %v", m.packages())
	}
	return m
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	report(t, checkImports(thisModule(t), table))
}

func TestGoroutinesHaveOwners(t *testing.T) {
	t.Parallel()
	report(t, checkGoroutines(thisModule(t)))
}

func TestNoInitAndNoSharedLoggers(t *testing.T) {
	t.Parallel()
	report(t, checkState(thisModule(t)))
}

func TestPurePackagesHaveNoEffects(t *testing.T) {
	t.Parallel()
	report(t, checkPure(thisModule(t)))
}
