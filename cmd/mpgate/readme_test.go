package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mpgate/internal/need"
	"mpgate/mptcp"
)

// block is a fenced block of a Markdown file.
type block struct {
	kind, text string
}

func blocks(t *testing.T, file string) (list []block) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		list = append(list, block{m[1], m[2]})
	}
	if strings.Count(string(b), "```") != 2*len(list) {
		t.Fatalf("%s: a block has no kind", file)
	}
	return list
}

// TestReadme runs what README.md shows: every command line must be known here and is run, but for
// those that change the host; every configuration is checked and served.
func TestReadme(t *testing.T) {
	t.Parallel()
	var commands []string
	configs := 0
	for _, b := range blocks(t, "../../README.md") {
		switch b.kind {
		case "sh":
			commands = append(commands, strings.Split(strings.TrimSpace(b.text), "\n")...)
		case "toml":
			configs++
			t.Run(fmt.Sprintf("config %d", configs), func(t *testing.T) { readmeConfig(t, b.text) })
		case "ini":
			t.Run("unit", func(t *testing.T) { readmeUnit(t, b.text) })
		default:
			t.Errorf("a block of the kind %q, which nothing here runs", b.kind)
		}
	}
	if configs != 2 || len(commands) < 9 {
		t.Errorf("%d configurations and %d commands: not what README.md had when this was written", configs, len(commands))
	}
	d := startDemo(t, nil)
	for _, line := range commands {
		t.Run(line, func(t *testing.T) { readmeCommand(t, d, line) })
	}
}

func readmeCommand(t *testing.T, d *demoRun, line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "go":
		if words[1] == "run" {
			readmeGoRun(t, words[1:])
			return
		}
	case "CGO_ENABLED=0":
		if line != buildCommand { // TestMain has run it
			t.Errorf("these tests build with %q", buildCommand)
		}
		return
	case "mpgate":
		// Of a pipe that ends in a file of the host, the first part.
		line, _, _ = strings.Cut(line, " | sudo")
		if slices.Contains([]string{"check", "run"}, words[1]) {
			return // with a configuration beside it: readmeConfig
		}
		if out, err := exec.Command(binary, strings.Fields(line)[1:]...).CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%v\n%s", err, out)
		}
		return
	case "sudo":
		return // changes the host
	case "mptcpize":
		tool(t, "mptcpize")
		if !mptcp.Host().Usable {
			need.Missing(t, "no MPTCP on this host: %s", mptcp.Host().Why)
		}
	case "ss":
		tool(t, "ss")
	case "curl":
		tool(t, "curl")
	default:
		t.Fatal("unknown command: add it to readmeCommand")
	}
	line = strings.NewReplacer("http://127.0.0.1:8080", d.web, "http://127.0.0.1:8081", d.admin).Replace(line)
	if out, err := exec.Command("bash", "-eo", "pipefail", "-c", line).CombinedOutput(); err != nil || len(out) == 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// readmeGoRun runs the demo with the go command, with other ports.
func readmeGoRun(t *testing.T, args []string) {
	args = append(args, "--address", "127.0.0.1:0", "--tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	// go and what it runs get the signal, as from a terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	p := &process{t: t, cmd: cmd, closed: 1, ended: make(chan struct{})}
	p.arrived = sync.NewCond(&p.mu)
	go p.read(out)
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	p.line(`^The access log`)
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	// The go command itself ends by 1 where it was interrupted; that the demo ends by 0 is in
	// TestDemo.
}

func readmeConfig(t *testing.T, text string) {
	app := named(t, "app", nil)
	text = strings.Replace(text, `"127.0.0.1:9000"`, fmt.Sprintf("%q", app), 1)
	file := write(t, "mpgate.toml", text)
	if out, err := exec.Command(binary, "check", "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("check: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	text = strings.NewReplacer(`":8080"`, `"127.0.0.1:0"`, "/run/mpgate/admin.sock", "admin.sock").Replace(text)
	if !strings.Contains(text, "[admin]") {
		text = "[admin]\naddress = \"unix:admin.sock\"\n" + text
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := start(t, func(c *exec.Cmd) {
		if strings.Contains(text, "systemd") {
			passing("web", f)(c)
		}
	}, "run", "-c", write(t, "mpgate.toml", text))
	web := p.ready("web")[0]
	if a := <-get("http://" + web + "/"); a.err != nil || a.body != "app " {
		t.Errorf("answer %+v", a)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// readmeUnit holds units to what they must have; that systemd takes them is tested with systemd.
func readmeUnit(t *testing.T, text string) {
	var key = regexp.MustCompile(`^[A-Z]\w*=\S.*$`)
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line != "" && !key.MatchString(line) && !regexp.MustCompile(`^\[\w+\]$`).MatchString(line) {
			t.Errorf("not a line of a unit: %q", line)
		}
	}
	want := []string{"SocketProtocol=mptcp", "FileDescriptorName=web"}
	if strings.Contains(text, "[Service]") {
		want = []string{"Type=notify", "RestartPreventExitStatus=78", " reload\n"}
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// TestLinks: what Markdown files of the repository link to within it is there.
func TestLinks(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/decisions/*.md", "../../docs/filters/*.md", "../../examples/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil || len(more) == 0 {
			t.Fatalf("%s: %v, %v", pattern, more, err)
		}
		files = append(files, more...)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
