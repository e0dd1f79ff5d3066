package archtest

import (
	"go/ast"
	"go/token"
	"slices"
)

// checkGoroutines finds product code that starts goroutines by other means than
// a lifecycle group.
func checkGoroutines(m *module) []string {
	var faults []string
	waitGroups := m.waitGroups()
	for _, f := range m.files {
		if f.test || slices.Contains(owners, f.pkg) {
			continue
		}
		for _, i := range f.imports {
			if matches("golang.org/x/sync/errgroup", i.path) || matches("github.com/sourcegraph/conc/...", i.path) {
				faults = append(faults, m.at(i.pos, "%s starts goroutines outside a lifecycle group", i.path))
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if what := starts(f, n, waitGroups[f.pkg]); what != "" {
				faults = append(faults, m.at(n.Pos(), "%s outside a lifecycle group", what))
			}
			return true
		})
	}
	return faults
}

// starts names what starts a goroutine at a node, or returns "".
func starts(f *file, n ast.Node, waitGroups map[string]bool) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "go statement"
	case *ast.Field:
		if len(n.Names) == 0 && isWaitGroup(f, n.Type) {
			return "embedded sync.WaitGroup, whose Go starts a goroutine"
		}
	case *ast.TypeSpec:
		if isWaitGroup(f, n.Type) {
			return "other name for sync.WaitGroup, whose Go starts a goroutine"
		}
	case *ast.SelectorExpr:
		switch {
		case f.isSelector(n, "time", "AfterFunc"):
			return "time.AfterFunc"
		case f.isSelector(n, "context", "AfterFunc"):
			return "context.AfterFunc"
		case n.Sel.Name == "ListenAndServe" || n.Sel.Name == "ListenAndServeTLS":
			return n.Sel.Name
		case n.Sel.Name == "Go" && (waitGroups[lastName(n.X)] || mentionsWaitGroup(f, n.X)):
			return "WaitGroup.Go"
		}
	}
	return ""
}

// waitGroups returns, per package, the names of its variables, parameters and
// fields that are wait groups. Names are all that syntax tells, so that one name
// must not stand for a wait group here and a lifecycle group there.
func (m *module) waitGroups() map[string]map[string]bool {
	groups := map[string]map[string]bool{}
	for _, f := range m.files {
		if f.test {
			continue
		}
		names := groups[f.pkg]
		if names == nil {
			names = map[string]bool{}
			groups[f.pkg] = names
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if isWaitGroup(f, n.Type) {
					addNames(names, n.Names)
				}
			case *ast.ValueSpec:
				if isWaitGroup(f, n.Type) {
					addNames(names, n.Names)
				}
				for i, v := range n.Values {
					if i < len(n.Names) && makesWaitGroup(f, v) {
						names[n.Names[i].Name] = true
					}
				}
			case *ast.AssignStmt:
				for i, v := range n.Rhs {
					if i < len(n.Lhs) && makesWaitGroup(f, v) {
						names[lastName(n.Lhs[i])] = true
					}
				}
			}
			return true
		})
	}
	return groups
}

func addNames(names map[string]bool, idents []*ast.Ident) {
	for _, i := range idents {
		names[i.Name] = true
	}
}

// isWaitGroup reports whether a type is sync.WaitGroup, a pointer to it, or a
// list or map of either.
func isWaitGroup(f *file, t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.StarExpr:
		return isWaitGroup(f, t.X)
	case *ast.ParenExpr:
		return isWaitGroup(f, t.X)
	case *ast.ArrayType:
		return isWaitGroup(f, t.Elt)
	case *ast.MapType:
		return isWaitGroup(f, t.Value)
	case *ast.SelectorExpr:
		return f.isSelector(t, "sync", "WaitGroup")
	}
	return false
}

// makesWaitGroup reports whether an expression is new(sync.WaitGroup), or a
// literal of a type that isWaitGroup knows, or its address.
func makesWaitGroup(f *file, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		return e.Op == token.AND && makesWaitGroup(f, e.X)
	case *ast.CompositeLit:
		return isWaitGroup(f, e.Type)
	case *ast.CallExpr:
		name, _ := e.Fun.(*ast.Ident)
		return name != nil && (name.Name == "new" || name.Name == "make") && len(e.Args) > 0 && isWaitGroup(f, e.Args[0])
	}
	return false
}

func mentionsWaitGroup(f *file, e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		found = found || f.isSelector(n, "sync", "WaitGroup")
		return !found
	})
	return found
}

// lastName returns the name at the end of an expression such as x.y[i].wg.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return lastName(e.X)
	case *ast.ParenExpr:
		return lastName(e.X)
	case *ast.StarExpr:
		return lastName(e.X)
	case *ast.UnaryExpr:
		return lastName(e.X)
	}
	return ""
}

// checkState finds what product code must not have at package level: init
// functions, and loggers, which are handed in through options. What belongs to the process as a
// whole, its default logger, is the program's to set, and nobody else's.
func checkState(m *module) []string {
	var faults []string
	for _, f := range m.files {
		if f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					faults = append(faults, m.at(d.Pos(), "init function"))
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR && mentionsLogger(f, d) {
					faults = append(faults, m.at(d.Pos(), "logger of a whole package"))
				}
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if f.pkg != "/cmd/p2pcore" && isDefaultLogger(f, n) {
				faults = append(faults, m.at(n.Pos(), "logger of the whole process"))
			}
			return true
		})
	}
	return faults
}

// mentionsLogger reports whether a declaration uses a logging package outside
// of the functions in it.
func mentionsLogger(f *file, d *ast.GenDecl) (found bool) {
	loggers := []string{"log", "log/slog", "go.uber.org/zap", "github.com/ipfs/go-log", "github.com/ipfs/go-log/v2",
		"github.com/libp2p/go-libp2p/gologshim"}
	ast.Inspect(d, func(n ast.Node) bool {
		if _, inside := n.(*ast.FuncLit); inside {
			return false
		}
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		for _, pkg := range loggers {
			found = found || f.isSelector(s, pkg, s.Sel.Name) || pkg == "github.com/ipfs/go-log/v2" && f.isNamed(s, pkg, "log", "logging")
		}
		return !found
	})
	return found
}

// isNamed is isSelector for a package whose path does not end in its name.
func (f *file) isNamed(s *ast.SelectorExpr, imported string, names ...string) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && slices.Contains(names, x.Name) &&
		slices.ContainsFunc(f.imports, func(i importSpec) bool { return i.path == imported })
}

// isDefaultLogger reports whether a node uses the logger that all packages of a
// process share.
func isDefaultLogger(f *file, n ast.Node) bool {
	return f.isSelector(n, "log/slog", "Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log", "LogAttrs",
		"DebugContext", "InfoContext", "WarnContext", "ErrorContext") ||
		f.isSelector(n, "log", "Default", "SetOutput", "SetFlags", "SetPrefix", "Print", "Printf", "Println", "Fatal", "Fatalf",
			"Fatalln", "Panic", "Panicf", "Panicln")
}

// checkPure finds clocks and other effects in the packages that have none.
func checkPure(m *module) []string {
	var faults []string
	for _, f := range m.files {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, i := range f.imports {
			if matchesAny(effects, i.path) {
				faults = append(faults, m.at(i.pos, "%s is free of effects and may not import %s", f.pkg, i.path))
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if f.isSelector(n, "time", "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker") {
				faults = append(faults, m.at(n.Pos(), "%s takes time as a parameter and may not ask a clock", f.pkg))
			}
			return true
		})
	}
	return faults
}
