package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
)

// jsonRequest is a request with a small JSON body. v is one of the api package's bodies.
func jsonRequest(method, path string, v any) client.Request {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a body of ours that is no JSON
	}
	return client.Request{
		Method: method,
		Path:   path,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   func() io.Reader { return bytes.NewReader(b) },
		Length: int64(len(b)),
	}
}

// withPeers adds the addresses that the node is to dial.
func withPeers(query url.Values, peers ...[]string) url.Values {
	for _, list := range peers {
		for _, p := range list {
			query.Add("peer", p)
		}
	}
	return query
}
