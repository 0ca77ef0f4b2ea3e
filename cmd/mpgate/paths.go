package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/admin"
	"mpgate/gateway"
)

type pathsCmd struct {
	configFlag
	JSON  bool `help:"Print the paths as JSON; with --watch, one line per second."`
	Watch bool `short:"w" help:"Update every second and show the current traffic of each path, until Ctrl-C."`
}

func (pathsCmd) Help() string {
	return `Shows the declared paths, other interfaces that carry subflows, the kernel's endpoints and limits, and the gateway's MPTCP connections with their subflows: at most 1,000, the busiest first. RETRANSMITTED is the part of SENT that was sent again.

On a terminal, --watch updates the output in place; otherwise it prints one report after the other.

    mpgate paths -c mpgate.toml
    mpgate paths -c mpgate.toml --watch
    mpgate paths -c mpgate.toml --json`
}

// watchInterval is the update interval of --watch.
const watchInterval = time.Second

func (c *pathsCmd) Run(p *program) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	begin, cancel := context.WithTimeout(ctx, remoteTime)
	defer cancel()
	client, _, err := c.ask(begin)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Watch {
		return c.watch(ctx, p, client)
	}
	raw, report, err := askPaths(begin, client)
	switch {
	case err != nil:
		return err
	case c.JSON:
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return err
		}
		_, err = b.WriteTo(p.stdout)
		return err
	}
	_, err = io.WriteString(p.stdout, newPicture(report, nil).text())
	return err
}

func askPaths(ctx context.Context, client *admin.Client) (raw []byte, r *gateway.PathsReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTime)
	defer cancel()
	if err := client.Get(ctx, "/api/paths", &raw); err != nil {
		return nil, nil, err
	}
	r = new(gateway.PathsReport)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, nil, fmt.Errorf("/api/paths: %w", err)
	}
	return raw, r, nil
}

// watch shows one picture a second until ctx ends. A gateway that does not answer for a while, for
// example during an upgrade, does not end it.
func (c *pathsCmd) watch(ctx context.Context, p *program, client *admin.Client) error {
	s := newScreen(p.stdout)
	defer s.leave()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var before history
	for {
		raw, report, err := askPaths(ctx, client)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && c.JSON:
			fmt.Fprintln(p.stderr, "mpgate:", err)
		case err != nil:
			err = s.draw(fmt.Sprintf("%s  %v\n", time.Now().Format(time.TimeOnly), err))
		case c.JSON:
			_, err = p.stdout.Write(append(bytes.TrimSpace(raw), '\n'))
		default:
			err = s.draw(newPicture(report, before.add(report)).text())
		}
		if err != nil && report != nil { // the error was of the output
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// screen shows texts: on a terminal each replaces the one before, elsewhere it follows it.
type screen struct {
	out      io.Writer
	terminal *os.File // nil: none
	shown    bool
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && os.Getenv("TERM") != "dumb" {
			s.terminal = f
		}
	}
	return s
}

// Control sequences of ECMA-48, which all terminals in use support.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeCursor  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func (s *screen) draw(text string) error {
	if s.terminal == nil {
		if s.shown {
			text = "\n" + text
		}
		s.shown = true
		_, err := io.WriteString(s.out, text)
		return err
	}
	rows, columns := 24, 80
	if size, err := unix.IoctlGetWinsize(int(s.terminal.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 0 && size.Col > 0 {
		rows, columns = int(size.Row), int(size.Col)
	}
	var b strings.Builder
	if !s.shown {
		b.WriteString(enterScreen)
	}
	s.shown = true
	b.WriteString(homeCursor)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range fit(lines, rows, columns) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// fit cuts lines to the size of a screen, and adds how many are hidden.
func fit(lines []string, rows, columns int) []string {
	if len(lines) > rows {
		hidden := len(lines) - rows + 1
		lines = append(lines[:rows-1:rows-1], fmt.Sprintf("… %d more lines", hidden))
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > columns {
			lines[i] = string(r[:columns])
		}
	}
	return lines
}

// leave restores the terminal.
func (s *screen) leave() {
	if s.terminal != nil && s.shown {
		_, _ = io.WriteString(s.out, leaveScreen)
	}
}
