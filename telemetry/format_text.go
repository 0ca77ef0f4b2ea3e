package telemetry

import "encoding/binary"

// appendText appends the record as name=value pairs and a newline: the fields of the JSON form,
// without the empty ones, quoted like JSON strings where that is needed to read them back.
func appendText(b []byte, fields []field, r *Record) []byte {
	has := traitsOf(r)
	for i := range fields {
		f := &fields[i]
		if f.when&^has != 0 {
			continue
		}
		start := len(b)
		b = f.text.appendTo(b)
		value := len(b)
		b = f.append(b, r)
		switch {
		case f.form == formBare:
		case len(b) == value:
			b = b[:start]
		case f.form == formQuoted:
			b = append(b, '"')
		case f.form == formString && needsQuotes(b[value:]):
			b = append(b, '"', '"')
			copy(b[value+1:], b[value:len(b)-2])
			b[value] = '"'
		}
	}
	return append(b, '\n')
}

// needsQuotes reports whether an escaped value could be misread without quotes.
func needsQuotes(value []byte) bool {
	i := 0
	for ; len(value)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(value[i:])
		if (w|differ(w, ' ')|differ(w, '=')|differ(w, '\\'))&highs != 0 {
			return true
		}
	}
	for _, c := range value[i:] {
		if c == ' ' || c == '=' || !plain[c] {
			return true
		}
	}
	return false
}
