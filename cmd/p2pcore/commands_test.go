package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/spf13/cobra"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/node/api"
)

// routeOf is the route that does the work of a command; empty for commands that need no store.
var routeOf = map[string]string{
	"append":                "POST /v1/cores/{core}/blocks",
	"block":                 "GET /v1/cores/{core}/blocks/{index}",
	"bootstrap":             "GET /v1/bootstrap",
	"cat":                   "GET /v1/cores/{core}/blocks",
	"check":                 "POST /v1/check",
	"clear":                 "POST /v1/cores/{core}/clear",
	"completion bash":       "",
	"completion fish":       "",
	"completion powershell": "",
	"completion zsh":        "",
	"config show":           "",
	"config validate":       "",
	"create":                "POST /v1/cores",
	"daemon":                "GET /readyz", // it serves them all
	"get":                   "GET /v1/cores/{core}/sync",
	"help":                  "",
	"id":                    "GET /v1/identity",
	"info":                  "GET /v1/cores/{core}",
	"key":                   "GET /v1/cores/{core}/key",
	"ls":                    "GET /v1/cores",
	"peers":                 "GET /v1/peers",
	"prove":                 "GET /v1/cores/{core}/blocks/{index}",
	"purge":                 "DELETE /v1/cores/{core}",
	"reference":             "",
	"replicate":             "GET /v1/replicate",
	"rm":                    "DELETE /v1/cores/{core}",
	"seed":                  "POST /v1/cores/{core}/seed",
	"share":                 "GET /v1/cores/{core}/announce",
	"status":                "GET /v1/status",
	"sync":                  "GET /v1/cores/{core}/sync",
	"tail":                  "GET /v1/cores/{core}/blocks",
	"truncate":              "POST /v1/cores/{core}/truncate",
	"unseed":                "DELETE /v1/cores/{core}/seed",
	"verify":                "GET /v1/verify",
	"version":               "",
}

// TestEveryCommandHasItsRoute compares the commands with the table, and the table with what the API describes.
func TestEveryCommandHasItsRoute(t *testing.T) {
	t.Parallel()
	store, err := corestore.Open(t.Context(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	server := api.New(api.Config{Store: store})
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://store/v1/openapi.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	described, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	root := newApp(strings.NewReader(""), io.Discard, io.Discard).root
	var walk func(prefix string, cmd *cobra.Command)
	walk = func(prefix string, cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			name := prefix + sub.Name()
			if sub.HasSubCommands() {
				walk(name+" ", sub)
				continue
			}
			route, known := routeOf[name]
			if !known {
				t.Errorf("which route does p2pcore %s use?", name)
			}
			method, path, _ := strings.Cut(route, " ")
			_, operations, found := strings.Cut(string(described), "\n  "+path+":\n")
			if end := strings.Index(operations, "\n  /"); end >= 0 {
				operations = operations[:end]
			}
			if route != "" && (!found || !strings.Contains(operations, "    "+strings.ToLower(method)+":\n")) {
				t.Errorf("p2pcore %s uses %s, which is not described", name, route)
			}
		}
	}
	walk("", root)
}
