package config

import "strings"

// FindAdmin reads only the table [admin] of a file. It is for programs that need to find the
// running gateway: the rest of the file may have faults, and a large file takes long to check. It
// returns false if the table alone is not enough: it has a fault, or may be in an included file.
func FindAdmin(path string, o Options) (Admin, bool) {
	text, err := read(path)
	if err != nil {
		return Admin{}, false
	}
	l := newLoader(o)
	root := l.parse(adminOnly(text), l.place(path, 0))
	if root == nil || root.keys["include"] != nil && !root.get("admin").written("address") {
		return Admin{}, false
	}
	return l.config(root).Admin, len(l.faults) == 0
}

// adminOnly returns the part of a TOML text that consists of the keys outside of tables and of the
// table [admin].
func adminOnly(text string) string {
	l := newLocator(text)
	var b strings.Builder
	for keep := true; ; {
		l.blank(true)
		start := l.at
		switch {
		case l.end():
			return b.String()
		case l.peek() == '[':
			var root spot
			l.header(&root)
			keep = root.keys["admin"] != nil
		default:
			l.pair(new(spot), 0)
		}
		if keep {
			b.WriteString(l.text[start:l.at])
			b.WriteByte('\n')
		}
	}
}
