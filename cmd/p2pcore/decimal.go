package main

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// decimal is a flag that holds a number of blocks. pflag's own numbers take 010 for eight.
type decimal uint64

var errDecimal = errors.New("want a number of blocks, in decimal digits")

// addDecimal adds a flag whose default is what p has.
func addDecimal(f *pflag.FlagSet, p *uint64, name, short, usage string) {
	f.VarP((*decimal)(p), name, short, usage)
}

func (d *decimal) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 53) // lengths of feeds are below 2^53
	if err != nil {
		return errDecimal
	}
	*d = decimal(n)
	return nil
}

func (d *decimal) String() string { return strconv.FormatUint(uint64(*d), 10) }

func (d *decimal) Type() string { return "uint64" }
