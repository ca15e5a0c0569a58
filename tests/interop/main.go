// Command interop is the other side of evbackup's tests: it runs the real
// Badger, as ev-node does, and serves and reads the proposed Backup RPC.
// README.md describes every subcommand and its output.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

type command struct {
	name string
	run  func(fs *flag.FlagSet, args []string) error
}

var commands = []command{
	{"serve", runServe},
	{"client", runClient},
	{"fill", runFill},
	{"digest", runDigest},
	{"backup", runBackup},
	{"load", runLoad},
	{"compact", runCompact},
	{"dump", runDump},
	{"golden", runGolden},
	{"check", runCheck},
	{"node", runNode},
	{"live", runLive},
	{"live-model", runLiveModel},
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	for _, c := range commands {
		if c.name != os.Args[1] {
			continue
		}
		if err := c.run(flag.NewFlagSet(c.name, flag.ExitOnError), os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s: %v\n", c.name, err)
			os.Exit(1)
		}
		return
	}
	usage()
}

func usage() {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	fmt.Fprintf(os.Stderr, "usage: interop %s [flags]\n", strings.Join(names, "|"))
	os.Exit(2)
}

// printJSON writes one line to standard output, in one write, so that lines of
// concurrent goroutines never mix.
func printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

// writeLine is printJSON for outputs of many lines.
func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
