package archtest

import (
	"slices"
	"strings"
)

// checkImports holds the module against the table and returns what breaks it.
func checkImports(m *module, table []row) []string {
	var faults []string
	for _, pkg := range m.packages() {
		if rowOf(table, pkg) == nil {
			faults = append(faults, pkg+": is not in the import table")
		}
	}
	for _, f := range m.files {
		r := rowOf(table, f.pkg)
		if r == nil {
			continue
		}
		for _, i := range f.imports {
			if fault := checkImport(r, f, i); fault != "" {
				faults = append(faults, m.at(i.pos, "%s", fault))
			}
		}
	}
	graph := m.graph()
	for _, pkg := range m.packages() {
		if r := rowOf(table, pkg); r != nil {
			faults = append(faults, reached(graph, r, pkg)...)
		}
	}
	return faults
}

// checkImport judges one import by itself.
func checkImport(r *row, f *file, i importSpec) string {
	own := strings.HasPrefix(i.path, "/")
	switch {
	case i.name == ".":
		return "import of " + i.path + " under no name: it hides what the file uses"
	case f.test && i.path == f.pkg:
		return "" // an external test of its package
	case f.test && slices.Contains(helpers, i.path) && !matches("/integration/...", f.pkg):
		return ""
	case slices.Contains(helpers, i.path):
		return f.pkg + " imports " + i.path + ", which is for test files only"
	case f.test && !own:
		return "" // tests choose their own tools
	case f.test && matches("/integration/...", f.pkg) && matchesAny(r.allow, i.path):
		return ""
	case f.test && !matches("/integration/...", f.pkg) && !matchesAny(r.never, i.path):
		return "" // tests may look sideways, never upward
	case !f.test && matchesAny(r.allow, i.path):
		return ""
	case !f.test && i.path == "testing" && slices.Contains(helpers, f.pkg):
		return ""
	}
	return f.pkg + " may not import " + i.path
}

// rowOf returns the row that speaks of a package, or nil.
func rowOf(table []row, pkg string) *row {
	for i := range table {
		if matchesAny(table[i].pkgs, pkg) {
			return &table[i]
		}
	}
	return nil
}

// graph returns what the product code of each of our packages imports.
func (m *module) graph() map[string][]string {
	graph := map[string][]string{}
	for _, f := range m.files {
		if f.test {
			continue
		}
		for _, i := range f.imports {
			if !slices.Contains(graph[f.pkg], i.path) {
				graph[f.pkg] = append(graph[f.pkg], i.path)
			}
		}
	}
	return graph
}

// reached returns, for each package that pkg must not reach and does, the
// shortest way to it. Ways lead through our own packages only: what other
// people's packages import is theirs.
func reached(graph map[string][]string, r *row, pkg string) []string {
	var faults []string
	seen := map[string]bool{pkg: true}
	for queue := [][]string{{pkg}}; len(queue) > 0; queue = queue[1:] {
		way := queue[0]
		for _, next := range graph[way[len(way)-1]] {
			if seen[next] {
				continue
			}
			seen[next] = true
			onward := append(slices.Clone(way), next)
			if matchesAny(r.never, next) {
				faults = append(faults, pkg+" must never reach "+next+": "+strings.Join(onward, " → "))
				continue
			}
			if strings.HasPrefix(next, "/") {
				queue = append(queue, onward)
			}
		}
	}
	return faults
}
