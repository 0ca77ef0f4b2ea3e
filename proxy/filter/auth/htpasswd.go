package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxPassword is the most that the password of a user may have, in bytes.
const MaxPassword = maxCredentials - maxName - 1

const (
	maxCredentials = 1 << 10 // bytes of user, colon and password
	maxName        = 255
	maxUsersFile   = 8 << 20
	maxFaults      = 20 // reported of one file
)

// user is a line of an htpasswd file.
type user struct {
	text []byte // the hash as it stands in the file
	hash passwordHash
}

// userTable is the contents of an htpasswd file, immutable.
type userTable struct {
	byName map[string]*user
	list   []*user
}

// parseUsers parses an htpasswd file. Its errors have line numbers, and quote no hash.
func parseUsers(data []byte) (*userTable, error) {
	t := &userTable{byName: map[string]*user{}}
	var faults []error
	lines := map[string]int{}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		name, u, err := parseUser(line)
		if err == nil && lines[name] > 0 {
			err = fmt.Errorf("the user %q is also on line %d", name, lines[name])
		}
		if err != nil {
			if faults = append(faults, fmt.Errorf("line %d: %w", n, err)); len(faults) == maxFaults {
				break
			}
			continue
		}
		lines[name] = n
		t.byName[name] = u
		t.list = append(t.list, u)
	}
	if len(faults) == 0 && len(t.list) == 0 {
		return nil, errors.New("there is no user in it; want lines of USER:HASH")
	}
	return t, errors.Join(faults...)
}

func parseUser(line string) (name string, u *user, err error) {
	name, rest, ok := strings.Cut(line, ":")
	switch {
	case !ok:
		return "", nil, errors.New("missing colon; want USER:HASH")
	case name == "" || len(name) > maxName || !utf8.ValidString(name) || hasControl(name):
		return "", nil, fmt.Errorf("invalid user name %.255q; want 1 to 255 bytes of UTF-8 without control characters", name)
	}
	text, _, _ := strings.Cut(rest, ":") // a comment may follow
	hash, err := parseHash(strings.TrimRight(text, " \t"))
	if err != nil {
		return "", nil, fmt.Errorf("user %q: %w", name, err)
	}
	return name, &user{[]byte(text), hash}, nil
}

func hasControl[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
