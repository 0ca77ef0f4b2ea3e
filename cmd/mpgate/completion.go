package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `The first command is for the current bash; the others install the script for all later sessions of zsh or fish.

    source <(mpgate completion bash)
    mpgate completion zsh > "${fpath[1]}/_mpgate"
    mpgate completion fish > ~/.config/fish/completions/mpgate.fish`
}

func (c *completionCmd) Run(p *program, k *kong.Kong) error {
	verbs := visible(k.Model.Node)
	switch c.Shell {
	case "bash":
		return bashCompletion(p.stdout, verbs)
	case "zsh":
		return zshCompletion(p.stdout, verbs)
	}
	return fishCompletion(p.stdout, verbs)
}

func visible(n *kong.Node) (list []*kong.Node) {
	for _, v := range n.Children {
		if !v.Hidden {
			list = append(list, v)
		}
	}
	return list
}

// flags are all flags of a command, including --help.
func flags(verb *kong.Node) (list []*kong.Flag) {
	for _, group := range verb.AllFlags(true) {
		list = append(list, group...)
	}
	return list
}

// values are the possible values of a flag or an argument; file: it is a file name.
func values(v *kong.Value, placeholder string) (words []string, file bool) {
	switch {
	case v.Enum != "":
		return v.EnumSlice(), false
	case v.Tag.Has("words"): // of an argument that may be left out
		return strings.Split(v.Tag.Get("words"), ","), false
	}
	return nil, placeholder == "FILE"
}

// bashCompletion completes the words of the command on the line, and file names after flags that
// take one.
func bashCompletion(w io.Writer, verbs []*kong.Node) error {
	var b strings.Builder
	b.WriteString("# bash completion for mpgate\n_mpgate() {\n" +
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} words=\n" +
		"\tCOMPREPLY=()\n" +
		"\tif ((COMP_CWORD == 1)); then\n\t\twords=\"")
	for _, v := range verbs {
		b.WriteString(v.Name + " ")
	}
	b.WriteString("--help\"\n\telse\n\t\tcase $verb:$prev in\n")
	for _, v := range verbs {
		for _, f := range flags(v) {
			pattern := v.Name + ":--" + f.Name
			if f.Short != 0 {
				pattern += "|" + v.Name + ":-" + string(f.Short)
			}
			words, file := values(f.Value, f.PlaceHolder)
			switch {
			case f.IsBool():
			case file:
				fmt.Fprintf(&b, "\t\t%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", pattern)
			default:
				fmt.Fprintf(&b, "\t\t%s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n", pattern, strings.Join(words, " "))
			}
		}
	}
	b.WriteString("\t\tesac\n\t\tcase $verb in\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "\t\t%s) words=\"%s\" ;;\n", v.Name, strings.Join(verbWords(v), " "))
	}
	b.WriteString("\t\tesac\n\tfi\n")
	for _, v := range verbs {
		if takesFiles(v) {
			fmt.Fprintf(&b, "\tif ((COMP_CWORD > %d)) && [[ $verb == %s ]]; then\n\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n\tfi\n", len(v.Positional), v.Name)
		}
	}
	b.WriteString("\tCOMPREPLY+=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o filenames -F _mpgate mpgate\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// verbWords are the words that may follow a command anywhere.
func verbWords(v *kong.Node) (words []string) {
	for _, a := range v.Positional {
		w, _ := values(a, "")
		words = append(words, w...)
	}
	for _, f := range flags(v) {
		words = append(words, "--"+f.Name)
	}
	return words
}

// takesFiles reports whether the last arguments of a command are file names.
func takesFiles(v *kong.Node) bool {
	return slices.ContainsFunc(v.Positional, isFile)
}

func isFile(a *kong.Positional) bool { return a.Name == "file" }

func zshCompletion(w io.Writer, verbs []*kong.Node) error {
	var b strings.Builder
	b.WriteString("#compdef mpgate\n# zsh completion for mpgate\n_mpgate() {\n\tlocal -a verbs\n\tverbs=(\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "\t\t'%s:%s'\n", v.Name, zshText(v.Help))
	}
	b.WriteString("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command verbs\n\t\treturn\n\tfi\n" +
		"\tlocal verb=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $verb in\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "\t%s)\n\t\t_arguments", v.Name)
		for _, f := range flags(v) {
			after := ""
			if !f.IsBool() {
				after = ":" + strings.ToLower(f.Name) + ":" + zshAction(f.Value, f.PlaceHolder)
			}
			help := "[" + zshText(f.Help) + "]" + after
			if f.Short != 0 {
				fmt.Fprintf(&b, " \\\n\t\t\t'(-%c --%s)'{-%c,--%s}'%s'", f.Short, f.Name, f.Short, f.Name, help)
			} else {
				fmt.Fprintf(&b, " \\\n\t\t\t'--%s%s'", f.Name, help)
			}
		}
		for _, a := range v.Positional {
			if isFile(a) {
				b.WriteString(" \\\n\t\t\t'*:file:_files'")
				continue
			}
			fmt.Fprintf(&b, " \\\n\t\t\t':%s:%s'", strings.ToLower(a.Name), zshAction(a, ""))
		}
		b.WriteString("\n\t\t;;\n")
	}
	b.WriteString("\tesac\n}\nif [[ $funcstack[1] == _mpgate ]]; then\n\t_mpgate \"$@\"\nelse\n\tcompdef _mpgate mpgate\nfi\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func zshAction(v *kong.Value, placeholder string) string {
	words, file := values(v, placeholder)
	switch {
	case file:
		return "_files"
	case len(words) > 0:
		return "(" + strings.Join(words, " ") + ")"
	}
	return " "
}

// zshText escapes text for single quotes, brackets and colons.
func zshText(s string) string {
	return strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
}

func fishCompletion(w io.Writer, verbs []*kong.Node) error {
	var b strings.Builder
	b.WriteString("# fish completion for mpgate\ncomplete -c mpgate -f\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "complete -c mpgate -n __fish_use_subcommand -a %s -d '%s'\n", v.Name, fishText(v.Help))
	}
	for _, v := range verbs {
		seen := "complete -c mpgate -n '__fish_seen_subcommand_from " + v.Name + "'"
		for _, a := range v.Positional {
			if isFile(a) {
				fmt.Fprintf(&b, "%s -F\n", seen)
			} else if words, _ := values(a, ""); len(words) > 0 {
				fmt.Fprintf(&b, "%s -a '%s' -d '%s'\n", seen, strings.Join(words, " "), fishText(a.Help))
			}
		}
		for _, f := range flags(v) {
			line := seen
			if f.Short != 0 {
				line += " -s " + string(f.Short)
			}
			line += " -l " + f.Name
			words, file := values(f.Value, f.PlaceHolder)
			switch {
			case f.IsBool():
			case file:
				line += " -r -F"
			default:
				line += " -x"
				if len(words) > 0 {
					line += " -a '" + strings.Join(words, " ") + "'"
				}
			}
			fmt.Fprintf(&b, "%s -d '%s'\n", line, fishText(f.Help))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func fishText(s string) string { return strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) }
