package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// maxConfigBytes bounds the configuration file.
const maxConfigBytes = 1 << 20

// Where the value of a flag comes from, weakest first.
const (
	originDefault = "default"
	originFile    = "file"
	originEnv     = "env"
	originFlag    = "flag"
)

// setting is one flag of the program: it has a key in the configuration file and a variable in the environment.
type setting struct {
	key  string // "network", or "daemon.api" for a flag of one command
	env  string // "P2PCORE_API"
	flag *pflag.Flag
}

// tables names the tables of commands whose own name is the key of a global flag.
var tables = map[string]string{"bootstrap": "bootstrap-node"}

// settings returns all flags of the program: the global ones, and then those of each command.
func settings(root *cobra.Command) []setting {
	var all []setting
	add := func(prefix string, flags *pflag.FlagSet) {
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "config" {
				all = append(all, setting{prefix + f.Name, envName(f.Name), f})
			}
		})
	}
	add("", root.PersistentFlags())
	var walk func(prefix string, cmd *cobra.Command)
	walk = func(prefix string, cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			name := sub.Name()
			if table, ok := tables[name]; ok {
				name = table
			}
			add(prefix+name+".", sub.LocalNonPersistentFlags())
			walk(prefix+name+".", sub)
		}
	}
	walk("", root)
	return all
}

// config is a configuration file.
type config struct {
	path   string
	exists bool
	values map[string][]string // by key; of repeatable flags there may be several
}

// configPath says where the configuration file is, and whether the user has named it.
func (a *app) configPath() (path string, named bool, err error) {
	if a.flags.config != "" {
		return a.flags.config, true, nil
	}
	if path := os.Getenv(envPrefix + "CONFIG"); path != "" {
		return path, true, nil
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "p2pcore", "config.toml"), false, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", false, nil // then there is no such file
	}
	return filepath.Join(home, ".config", "p2pcore", "config.toml"), false, nil
}

// loadConfig reads the file at path. Only a file that the user has named must exist. Keys that there are not, and values of
// a kind that no flag has, are errors; all of them are returned.
func loadConfig(path string, named bool, known []setting) (config, []error) {
	c := config{path: path, values: make(map[string][]string)}
	if path == "" {
		return c, nil
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return c, nil
	case err != nil:
		return c, []error{fmt.Errorf("the configuration %s cannot be read: %w", path, reasonOf(err))}
	case len(b) > maxConfigBytes:
		return c, []error{fmt.Errorf("the configuration %s has %d bytes", path, len(b))}
	}
	c.exists = true
	var tree map[string]any
	if err := toml.Unmarshal(b, &tree); err != nil {
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, column := syntax.Position()
			return c, []error{fmt.Errorf("the configuration %s, line %d, column %d: %s", path, line, column, strings.TrimPrefix(syntax.Error(), "toml: "))}
		}
		return c, []error{fmt.Errorf("the configuration %s: %w", path, err)}
	}
	return c, c.flatten("", tree, known)
}

// reasonOf is an error of a file without the file's name.
func reasonOf(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// flatten collects the values of a table.
func (c *config) flatten(prefix string, tree map[string]any, known []setting) (faults []error) {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		key := prefix + name
		if table, ok := tree[name].(map[string]any); ok {
			faults = append(faults, c.flatten(key+".", table, known)...)
			continue
		}
		i := slices.IndexFunc(known, func(s setting) bool { return s.key == key })
		if i < 0 {
			faults = append(faults, fmt.Errorf("the configuration %s: there is no key %q; the nearest is %q", c.path, key, nearest(key, known)))
			continue
		}
		values, err := texts(tree[name], known[i].flag.Value.Type() == "stringArray")
		if err != nil {
			faults = append(faults, fmt.Errorf("the configuration %s: %s: %w", c.path, key, err))
			continue
		}
		c.values[key] = values
	}
	return faults
}

// texts turns a value of TOML into what a flag takes.
func texts(v any, repeatable bool) ([]string, error) {
	list, isList := v.([]any)
	switch {
	case !isList:
		list = []any{v}
	case !repeatable:
		return nil, errors.New("want one value, not a list")
	}
	values := make([]string, len(list))
	for i, item := range list {
		switch item := item.(type) {
		case string:
			values[i] = item
		case bool, int64, float64:
			values[i] = fmt.Sprint(item)
		default:
			return nil, fmt.Errorf("want text, a number or true or false, not %v", item)
		}
	}
	return values, nil
}

// apply sets a flag to what the file says, if it says anything.
func (c *config) apply(s setting) (bool, error) {
	values, ok := c.values[s.key]
	if !ok {
		return false, nil
	}
	for _, v := range values {
		if err := s.flag.Value.Set(v); err != nil {
			return false, fmt.Errorf("the configuration %s: %s = %q: %w", c.path, s.key, v, err)
		}
	}
	s.flag.Changed = true
	return true, nil
}

// nearest returns the known key that takes the fewest changes.
func nearest(key string, known []setting) string {
	best, least := "", len(key)+64
	for _, s := range known {
		d := distance(key, s.key)
		// A key in the wrong table, or in none, is a likelier mistake than its letters tell.
		if i := strings.LastIndexByte(s.key, '.'); lastPart(key) == s.key[i+1:] {
			d = min(d, 1)
		}
		if d < least {
			best, least = s.key, d
		}
	}
	return best
}

func lastPart(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// distance counts how many letters have to be put in, taken out or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
