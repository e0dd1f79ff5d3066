package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// modulePath is what the import paths of our own packages begin with.
const modulePath = "github.com/p2pcore/p2pcore"

// A module is the syntax of all Go files below a directory.
type module struct {
	fset  *token.FileSet
	files []*file
}

// A file is one Go file, under any build constraint.
type file struct {
	pkg     string // directory below the module, with a slash in front: "/internal/wire"
	test    bool   // name ends in _test.go
	syntax  *ast.File
	imports []importSpec
}

type importSpec struct {
	path string // our own packages as in file.pkg
	name string // by which the file knows it; "" if it is the package's own
	pos  token.Pos
}

// loadModule parses all Go files. Like the go command it leaves out testdata,
// vendor, nested modules, and names that begin with a dot or an underscore.
func loadModule(fsys fs.FS) (*module, error) {
	m := &module{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		hidden := name != "." && (base[0] == '.' || base[0] == '_')
		if entry.IsDir() {
			if hidden || base == "testdata" || base == "vendor" {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || path.Ext(name) != ".go" {
			return nil
		}
		return m.add(fsys, name)
	})
	return m, err
}

func (m *module) add(fsys fs.FS, name string) error {
	source, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(m.fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	f := &file{
		pkg:    path.Join("/", path.Dir(name)),
		test:   strings.HasSuffix(name, "_test.go"),
		syntax: syntax,
	}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		i := importSpec{path: ownPath(imported), pos: spec.Pos()}
		if spec.Name != nil {
			i.name = spec.Name.Name
		}
		f.imports = append(f.imports, i)
	}
	m.files = append(m.files, f)
	return nil
}

// ownPath shortens the import path of one of our packages.
func ownPath(imported string) string {
	if rest, ok := strings.CutPrefix(imported, modulePath); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return imported
}

// packages returns the packages of the module, in order.
func (m *module) packages() []string {
	var pkgs []string
	for _, f := range m.files {
		pkgs = append(pkgs, f.pkg)
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}

// at says where pos is, and what is wrong there.
func (m *module) at(pos token.Pos, format string, args ...any) string {
	p := m.fset.Position(pos)
	return fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...))
}

// knownAs returns the names by which the file may use an imported package. A
// package whose own name differs from the end of its path has to be listed here
// if a rule speaks of it.
func (f *file) knownAs(imported string) []string {
	var names []string
	for _, i := range f.imports {
		if i.path != imported {
			continue
		}
		if i.name != "" {
			names = append(names, i.name)
		} else {
			names = append(names, path.Base(imported))
		}
	}
	return names
}

// isSelector reports whether n is pkg.name of an imported package, for one of
// the names.
func (f *file) isSelector(n ast.Node, imported string, names ...string) bool {
	s, ok := n.(*ast.SelectorExpr)
	if !ok || !slices.Contains(names, s.Sel.Name) {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && slices.Contains(f.knownAs(imported), x.Name)
}

// matches reports whether an import path fits a pattern: the path itself, or
// "path/..." for it and everything below. "std" is the standard library.
func matches(pattern, imported string) bool {
	if pattern == "std" {
		first, _, _ := strings.Cut(imported, "/")
		return first != "" && !strings.Contains(first, ".")
	}
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return imported == root || strings.HasPrefix(imported, root+"/")
	}
	return imported == pattern
}

func matchesAny(patterns []string, imported string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, imported) })
}
