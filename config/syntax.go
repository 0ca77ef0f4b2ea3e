package config

import (
	"fmt"
	"strings"
)

// lineOf returns a line of a text, which counts from 1.
func lineOf(text string, number int) string {
	for line := range strings.Lines(text) {
		if number--; number == 0 {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// explainSyntax says what the parser's message about a line most likely comes from, and what would
// be right. It returns the message itself where that is all there is to say.
func explainSyntax(msg, line string) string {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if !strings.Contains(msg, p) {
				return false
			}
		}
		return true
	}
	name, value, isPair := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case has("strings cannot contain newlines"), has("unexpected EOF"), has("unclosed string"):
		return "a string is not closed; add its quote at the end of the value"
	case has("expected value but found") && isPair && value != "" && isWord(value):
		return fmt.Sprintf("the value %s has no quotes; write %s = %s", value, name, quote(value))
	case has("expected value but found") && isPair && (value == "" || value[0] == '#'):
		return fmt.Sprintf("the key %s has no value; write one behind the =, or leave the key out", name)
	case has("expected '.' or '='", "':'"):
		key, value, _ := strings.Cut(line, ":")
		return fmt.Sprintf("a colon is between key and value; write %s = %s", strings.TrimSpace(key), valueOf(value))
	case has("expected '.' or '='") && strings.HasSuffix(line, "{"):
		return "a block in braces is not TOML; write a heading such as [[route]], and below it a line key = value for each key" + foreignWord(word)
	case has("expected '.' or '='") && rest != "":
		return fmt.Sprintf("a = is missing; write %s = %s", word, valueOf(rest)) + foreignWord(word)
	case has("comma", "end of file"):
		return "an array or an inline table is not closed; add its ] or } at the end"
	case has("comma or an inline table terminator"), has("comma or array terminator"):
		return "a comma is missing between two keys or values, or the ] or } at their end"
	case has("table array name delimiter"), has("end of table name"):
		return fmt.Sprintf("a heading is not closed; write [[%s]] with two brackets at both ends", strings.Trim(line, "[] "))
	case has("invalid escape"):
		return msg + `; a backslash in a string in double quotes is \\, and a string in single quotes is taken as it is`
	}
	return msg
}

// isWord reports whether a value is text that was meant to be a string.
func isWord(s string) bool { return !strings.ContainsAny(s, `"'[]{}#`) }

// valueOf returns the value of another language as a string of TOML.
func valueOf(s string) string {
	return quote(strings.Trim(strings.TrimSpace(s), `"';`))
}

// foreignWord adds what is right in place of another proxy's directive.
func foreignWord(word string) string {
	if right := rightFor(word, &place{}); right != "" {
		return "; for " + word + ", " + right
	}
	return ""
}
