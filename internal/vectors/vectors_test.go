package vectors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestHexGoesThroughJSON(t *testing.T) {
	for _, c := range []struct {
		text string
		want Hex
	}{
		{`null`, nil},
		{`""`, Hex{}},
		{`"00ff"`, Hex{0, 0xff}},
	} {
		got := Hex{1}
		if err := json.Unmarshal([]byte(c.text), &got); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("value of %s = %#v, want %#v", c.text, got, c.want)
		}
		if text, err := json.Marshal(got); err != nil || string(text) != c.text {
			t.Errorf("text of %#v = %s, %v; want %s", got, text, err, c.text)
		}
	}
	for _, bad := range []string{`"0"`, `"xy"`, `1`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(Hex)); err == nil {
			t.Errorf("value of %s: no error", bad)
		}
	}
}

func TestLoadPrefersTheNamedFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(`{"max": 9007199254740991}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Env, dir)
	var v struct{ Max uint64 }
	if Load(t, "x.json", &v); v.Max != 1<<53-1 {
		t.Errorf("max = %d, want %d", v.Max, uint64(1<<53-1))
	}
	t.Setenv(Env, filepath.Join("testdata", "vectors"))
	relative := Path(t, "keys.json")
	t.Setenv(Env, "")
	var file map[string]json.RawMessage
	if Load(t, "merkle.json", &file); len(file) == 0 {
		t.Error("the copy in the tree is empty")
	}
	if got := Path(t, "keys.json"); got != relative {
		t.Errorf("a relative folder is %s, want %s", relative, got)
	}
}
