package message

// Field is one line of a Header: offsets into its buffer.
type Field struct {
	id         ID
	name, text span
}

type span struct{ off, len uint32 }

// Header is an ordered list of fields. The zero value is empty and ready. Codecs validate what they
// put into it; Header itself only stores.
type Header struct {
	buf    []byte
	fields []Field
	// has: bit i is set if there is a field with ID i; it may also be set after a deletion.
	has uint64
}

// Reset empties h and keeps its memory.
func (h *Header) Reset() {
	h.buf = h.buf[:0]
	h.fields = h.fields[:0]
	h.has = 0
}

// Copy copies b into h's buffer and returns the copy, to whose offsets AddSpan refers. A decoder
// brings in a complete head with it.
func (h *Header) Copy(b []byte) []byte {
	off := len(h.buf)
	h.buf = append(h.buf, b...)
	return h.buf[off:len(h.buf):len(h.buf)]
}

// AddSpan appends a field whose name and value already lie in the buffer, at the given offsets.
func (h *Header) AddSpan(id ID, nameOff, nameLen, valueOff, valueLen int) {
	h.fields = append(h.fields, Field{
		id:   id,
		name: span{uint32(nameOff), uint32(nameLen)},
		text: span{uint32(valueOff), uint32(valueLen)},
	})
	h.has |= 1 << id
}

// Len is the number of fields, deleted ones included; At says false for those.
func (h *Header) Len() int { return len(h.fields) }

// Size is the number of bytes of names and values held.
func (h *Header) Size() int { return len(h.buf) }

// At gives field i, in the order of arrival. ok is false if it was deleted.
func (h *Header) At(i int) (id ID, name, value []byte, ok bool) {
	f := &h.fields[i]
	return f.id, h.slice(f.name), h.slice(f.text), f.id != deleted
}

func (h *Header) slice(s span) []byte {
	return h.buf[s.off : s.off+s.len : s.off+s.len]
}

// Has says whether there is a field with this known ID.
func (h *Header) Has(id ID) bool {
	return h.has&(1<<id) != 0 && h.Index(id, 0) >= 0
}

// Index gives the position of the first field with this ID at or after from, -1 if there is
// none.
func (h *Header) Index(id ID, from int) int {
	if h.has&(1<<id) == 0 {
		return -1
	}
	for i := from; i < len(h.fields); i++ {
		if h.fields[i].id == id {
			return i
		}
	}
	return -1
}

// Get is the value of the first field with this known ID, nil if there is none.
func (h *Header) Get(id ID) []byte {
	i := h.Index(id, 0)
	if i < 0 {
		return nil
	}
	return h.slice(h.fields[i].text)
}

// Add appends a well-known field under mpgate's spelling of its name.
func (h *Header) Add(id ID, value []byte) { addField(h, id, names[id], value) }

// AddString is Add for a value that is a string.
func (h *Header) AddString(id ID, value string) { addField(h, id, names[id], value) }

// AddName appends a field by its name.
func (h *Header) AddName(name, value []byte) { addField(h, Lookup(name), name, value) }

func addField[N, V string | []byte](h *Header, id ID, name N, value V) {
	off := len(h.buf)
	h.buf = append(h.buf, name...)
	h.buf = append(h.buf, value...)
	h.AddSpan(id, off, len(name), off+len(name), len(value))
}

// Del removes every field with this known ID.
func (h *Header) Del(id ID) {
	if h.has&(1<<id) == 0 {
		return
	}
	for i := range h.fields {
		if h.fields[i].id == id {
			h.fields[i].id = deleted
		}
	}
	h.has &^= 1 << id
}

// DelAt removes field i.
func (h *Header) DelAt(i int) { h.fields[i].id = deleted }

// DelName removes every field of this name, in any case, and returns how many there were.
func (h *Header) DelName(name []byte) (n int) {
	id := Lookup(name)
	for i := range h.fields {
		f := &h.fields[i]
		if f.id != id || id == Other && !EqualFold(h.slice(f.name), name) {
			continue
		}
		f.id = deleted
		n++
	}
	if id != Other {
		h.has &^= 1 << id
	}
	return n
}

// Set replaces all fields with this known ID by one.
func (h *Header) Set(id ID, value []byte) {
	h.Del(id)
	h.Add(id, value)
}
