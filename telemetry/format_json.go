package telemetry

// appendJSON appends the record as one JSON object and a newline.
func appendJSON(b []byte, fields []field, r *Record) []byte {
	b = append(b, '{')
	has := traitsOf(r)
	for i := range fields {
		f := &fields[i]
		if f.when&^has != 0 {
			continue
		}
		b = f.json.appendTo(b)
		b = f.append(b, r)
		if f.form != formBare {
			b = append(b, '"')
		}
	}
	return append(b, '}', '\n')
}
