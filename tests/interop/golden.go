package main

import (
	"errors"
	"flag"
)

func runGolden(fs *flag.FlagSet, args []string) error { return errors.New("later") }
