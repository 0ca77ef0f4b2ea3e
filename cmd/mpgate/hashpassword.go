package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"mpgate/proxy/filter/auth"
)

type hashPasswordCmd struct{}

func (hashPasswordCmd) Help() string {
	return `Reads the password from the terminal, without echo, or from standard input. Prints the hash, for a line USER:HASH in the file that basic_auth names.

    mpgate hash-password
    printf 'alice:%s\n' "$(mpgate hash-password)" >> htpasswd`
}

func (hashPasswordCmd) Run(p *program) error {
	read := readPassword
	if term.IsTerminal(int(os.Stdin.Fd())) {
		read = askPassword
	}
	password, err := read(os.Stdin, p.stderr)
	if err == nil {
		err = checkPassword(password)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, auth.HashPassword(password))
	return err
}

// askPassword asks for a password at a terminal, twice.
func askPassword(in *os.File, out io.Writer) (_ []byte, err error) {
	state, err := term.MakeRaw(int(in.Fd())) // so that Ctrl-C leaves no terminal without echo
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, term.Restore(int(in.Fd()), state)) }()
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "")
	var answers [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		if answers[i], err = t.ReadPassword(prompt); err != nil {
			return nil, errors.New("no password was given")
		}
	}
	if answers[0] != answers[1] {
		return nil, errors.New("the two passwords differ")
	}
	return []byte(answers[0]), nil
}

// readPassword reads the only line of in.
func readPassword(in *os.File, _ io.Writer) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(in, 2*auth.MaxPassword))
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")), nil
}

// checkPassword refuses what no client could send (RFC 7617 section 2).
func checkPassword(b []byte) error {
	switch {
	case len(b) == 0:
		return errors.New("the password is empty")
	case len(b) > auth.MaxPassword:
		return fmt.Errorf("the password is too long; the most are %d bytes", auth.MaxPassword)
	case bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("the password has a control character; want one line of text")
	}
	return nil
}
