package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
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

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
