package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/corestore/disk"
)

// httpMain is the command http of scripts: http METHOD URL [-body FILE] [HEADER: VALUE…]. It prints the status, the
// header fields that scripts look at, an empty line, and the body. A token file is named by Token: FILE.
func httpMain() {
	method, url, rest := os.Args[1], os.Args[2], os.Args[3:]
	var body io.Reader
	if len(rest) > 1 && rest[0] == "-body" {
		b, err := os.ReadFile(rest[1])
		if err != nil {
			fatal(err)
		}
		body, rest = strings.NewReader(string(b)), rest[2:]
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		fatal(err)
	}
	for _, line := range rest {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Token":
			token, err := os.ReadFile(value)
			if err != nil {
				fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		case "Host":
			req.Host = value
		default:
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fatal(err)
	}
	fmt.Println(resp.StatusCode)
	for _, name := range []string{"Content-Type", "Content-Range", "Content-Length", "ETag"} {
		if v := resp.Header.Get(name); v != "" {
			fmt.Printf("%s: %s\n", name, v)
		}
	}
	fmt.Println()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		fatal(err)
	}
}

// damageMain is the command damage of scripts: damage STORE TEXT. It changes every record of the store that holds TEXT.
func damageMain() {
	ctx, text := context.Background(), []byte(os.Args[2])
	d, err := disk.Open(os.Args[1], disk.Options{})
	if err != nil {
		fatal(err)
	}
	found, err := d.Datastore().Query(ctx, query.Query{})
	if err != nil {
		fatal(err)
	}
	records, err := found.Rest()
	if err != nil {
		fatal(err)
	}
	changed := 0
	for _, r := range records {
		if !bytes.Contains(r.Value, text) {
			continue
		}
		changed++
		value := bytes.ReplaceAll(r.Value, text, bytes.ToUpper(text))
		if err := d.Datastore().Put(ctx, datastore.NewKey(r.Key), value); err != nil {
			fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		fatal(err)
	}
	fmt.Println(changed, "records")
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
