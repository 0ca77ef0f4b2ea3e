package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// model is the command line that the tests hold others to.
func model(t *testing.T) *kong.Node {
	t.Helper()
	k, err := newParser(&program{}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Node
}

func verbNames(t *testing.T) (names []string) {
	for _, v := range visible(model(t)) {
		names = append(names, v.Name)
	}
	return names
}

func script(t *testing.T, shell string) string {
	t.Helper()
	out, err := exec.Command(binary, "completion", shell).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestBash completes in a real bash.
func TestBash(t *testing.T) {
	bash := tool(t, "bash")
	file := write(t, "mpgate.bash", script(t, "bash"))
	complete := func(words ...string) []string {
		t.Helper()
		program := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mpgate; printf '%s\n' "${COMPREPLY[@]}"`
		out, err := exec.Command(bash, append([]string{"-c", program, "bash", file}, words...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Fields(string(out))
	}
	if got, want := complete("mpgate", ""), append(verbNames(t), "--help"); !slices.Equal(got, want) {
		t.Errorf("verbs: %v, want %v", got, want)
	}
	for _, c := range []struct{ line, want string }{
		{"mpgate st", "status"},
		{"mpgate check --j", "--json"},
		{"mpgate completion z", "zsh"},
		{"mpgate demo --format ", "text json"},
		{"mpgate explain --listener ", ""},
		{"mpgate run -c " + file[:len(file)-2], file},
		{"mpgate run --config " + file[:len(file)-2], file},
		{"mpgate nosuch ", ""},
	} {
		if got := strings.Join(complete(strings.Split(c.line, " ")...), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

// TestZsh: zsh can read the script, and offers every verb.
func TestZsh(t *testing.T) {
	zsh := tool(t, "zsh")
	file := write(t, "_mpgate", script(t, "zsh"))
	// _describe and _arguments write down what they are given.
	program := `compdef() { :; }; source "$1"; _describe() { print -rl -- "${(@P)2}"; }; _arguments() { print -rl -- "$@"; }
words=(mpgate ""); CURRENT=2; _mpgate; words=(mpgate run ""); CURRENT=3; _mpgate`
	out, err := exec.Command(zsh, "-f", "-c", program, "zsh", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, v := range verbNames(t) {
		if !strings.Contains("\n"+string(out), "\n"+v+":") {
			t.Errorf("%s is not offered:\n%s", v, out)
		}
	}
	if !strings.Contains(string(out), "--config[Configuration file (/etc/mpgate/mpgate.toml).]:config:_files") {
		t.Errorf("run --config is not offered:\n%s", out)
	}
}

// TestFish completes in a real fish.
func TestFish(t *testing.T) {
	fish := tool(t, "fish")
	file := write(t, "mpgate.fish", script(t, "fish"))
	complete := func(line string) string {
		t.Helper()
		cmd := exec.Command(fish, "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", file, line)
		cmd.Env = append(cmd.Environ(), "HOME="+t.TempDir(), "TERM=dumb")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	got := complete("mpgate ")
	for _, v := range verbNames(t) {
		if !strings.Contains("\n"+got, "\n"+v+"\t") {
			t.Errorf("%s is not offered:\n%s", v, got)
		}
	}
	if got := complete("mpgate check --j"); !strings.HasPrefix(got, "--json\t") {
		t.Errorf("check --j: %q", got)
	}
	if got := complete("mpgate demo --format "); !strings.HasPrefix(got, "json") && !strings.HasPrefix(got, "text") {
		t.Errorf("demo --format: %q", got)
	}
}

// TestMan: groff has no warnings, and the page has every command and flag.
func TestMan(t *testing.T) {
	groff := tool(t, "groff")
	page, err := exec.Command(binary, "man").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(groff, "-man", "-ww", "-z", "-Tutf8")
	cmd.Stdin = strings.NewReader(string(page))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
	for _, v := range visible(model(t)) {
		if !strings.Contains(string(page), ".SS \"mpgate "+v.Name) {
			t.Errorf("no %s in the page", v.Name)
		}
		for _, f := range v.Flags {
			if !strings.Contains(string(page), `\-\-`+strings.ReplaceAll(f.Name, "-", `\-`)) {
				t.Errorf("no --%s in the page", f.Name)
			}
		}
	}
}

// TestHelp: every verb says what it does, and ends that with a stop.
func TestHelp(t *testing.T) {
	for _, v := range model(t).Children {
		if !strings.HasSuffix(v.Help, ".") {
			t.Errorf("%s: %q", v.Name, v.Help)
		}
		for _, f := range v.Flags {
			if !strings.HasSuffix(f.Help, ".") {
				t.Errorf("%s --%s: %q", v.Name, f.Name, f.Help)
			}
		}
	}
}
