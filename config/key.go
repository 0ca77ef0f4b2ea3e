package config

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"mpgate/proxy/limits"
)

// key is a key of the file format, declared by a field. It is one of three kinds: a table (table is
// set), a map (names and elem are set), or a value or list of values (codec is set).
type key struct {
	name     string
	index    []int // of the field
	help, eg string
	required *string // what to write if it is missing
	one      bool    // a list or map that may be written as its only entry
	inline   bool    // printed as an inline table (both forms are read)
	secret   bool    // never printed, never quoted in a fault
	toggle   bool    // a table that may be written as true or false
	short    string  // the key of the table that a value in place of the table is for
	unless   string  // the key that may be there in place of a required one
	merge    bool    // a map that is merged with that of a set or of the defaults, by name
	merged   bool    // no longer in a Config: what it names is merged into others
	group    string  // of keys of which exactly one must be written

	codec *codec       // of a value, or of each of a list
	list  bool         // an array of values or tables
	table reflect.Type // of a table, or of each in an array of tables
	names *codec       // of the names in a map
	elem  *key         // the values in a map

	def     reflect.Value
	defText string
}

// keys are the keys of all tables, in the order of the source.
var keys = declare(map[reflect.Type][]key{}, reflect.TypeFor[Config]())

// declare adds the keys of a table, and of the tables in it, to m, and returns m.
func declare(m map[reflect.Type][]key, t reflect.Type) map[reflect.Type][]key {
	if m[t] != nil {
		return m
	}
	m[t] = keysOf(t)
	for _, k := range m[t] {
		if k.elem != nil {
			k = *k.elem
		}
		if k.table != nil {
			declare(m, k.table)
		}
	}
	return m
}

// defaults are the tables whose defaults are declared in Go, not in tags.
var defaults = map[reflect.Type]reflect.Value{
	reflect.TypeFor[limits.Limits](): reflect.ValueOf(limits.Default),
}

// keysOf returns the keys of a table.
func keysOf(t reflect.Type) []key {
	var ks []key
	values := defaults[t]
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, k := range keysOf(f.Type) {
				if !slices.Contains(strings.Split(f.Tag.Get("without"), ","), k.name) {
					k.index = append([]int{i}, k.index...)
					ks = append(ks, k)
				}
			}
		} else if tag, ok := f.Tag.Lookup("toml"); ok {
			var def reflect.Value
			if values.IsValid() {
				def = values.FieldByIndex(f.Index)
			}
			ks = append(ks, newKey(f, strings.Split(tag, ","), def))
		}
	}
	return ks
}

// newKey returns the key that a field declares. def is its default if that is not in a tag.
func newKey(f reflect.StructField, tag []string, def reflect.Value) key {
	k := key{
		name: tag[0], index: f.Index, help: f.Tag.Get("help"), eg: f.Tag.Get("eg"), defText: f.Tag.Get("default"),
		one: slices.Contains(tag, "one"), inline: slices.Contains(tag, "inline"), secret: slices.Contains(tag, "secret"),
		merge: slices.Contains(tag, "merge"), merged: slices.Contains(tag, "merged"),
		toggle: slices.Contains(tag, "toggle"), short: f.Tag.Get("short"), group: f.Tag.Get("group"),
	}
	if text, ok := f.Tag.Lookup("required"); ok {
		k.required, k.unless = &text, f.Tag.Get("unless")
	}
	t := f.Type
	switch t.Kind() {
	case reflect.Map:
		k.declareMap(f, tag)
		return k
	case reflect.Slice:
		t, k.list = t.Elem(), true
	}
	_, tagged := f.Tag.Lookup("default")
	if k.codec = codecOf(t, f.Tag, tagged || def.IsValid()); k.codec == nil {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		k.table = t
		return k
	}
	switch {
	case def.IsValid():
		k.def, k.defText = def, cmp.Or(k.eg, k.codec.print(def))
	case tagged:
		k.def = k.value(f.Type)
	}
	if k.eg == "" {
		k.eg, _, _ = strings.Cut(k.defText, ",")
	}
	return k
}

// value returns the default of the tag. It panics if the key does not accept it, which is an error
// in the source.
func (k *key) value(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if !k.list {
		k.codec.mustSet(v, k.defText)
		return v
	}
	for _, s := range strings.Split(k.defText, ",") {
		e := reflect.New(t.Elem()).Elem()
		k.codec.mustSet(e, s)
		v.Set(reflect.Append(v, e))
	}
	return v
}

// in returns the field of a table that contains the key's value.
func (k *key) in(table reflect.Value) reflect.Value {
	if len(k.index) == 1 {
		return table.Field(k.index[0])
	}
	return table.FieldByIndex(k.index)
}

// texts converts the values of an enumeration of strings, for its method Values.
func texts[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// codec reads, checks, prints and describes the values of one type or format.
type codec struct {
	form     string // string, integer or boolean, as in JSON Schema
	empty    bool   // an empty string stands for no value
	values   []string
	pattern  string  // of the strings that may be right, for the schema
	min, max int64   // of an integer
	only     []int64 // the valid integers, if they are listed
	fold     bool    // names in a map that differ only in case are the same
	// set parses a string into v. Relative paths start at dir. A problem has the form "what is
	// wrong; what would be right"; v then is zero.
	set  func(v reflect.Value, s, dir string) (problem string)
	text func(v reflect.Value) string
}

// isBool reports whether s is a value that is written as a TOML boolean, although the other values
// are strings.
func (c *codec) isBool(s string) bool {
	return (s == "true" || s == "false") && slices.Contains(c.values, s)
}

// stringOf returns the value of a string, or the text of a boolean that is one of the values.
func (c *codec) stringOf(n *node) (s string, ok bool) {
	if b, ok := n.leaf.(bool); ok && c.isBool(strconv.FormatBool(b)) {
		return strconv.FormatBool(b), true
	}
	s, ok = n.leaf.(string)
	return s, ok
}

// literal returns a value as TOML.
func (c *codec) literal(s string) string {
	if c.isBool(s) {
		return s
	}
	return quote(s)
}

// want describes the TOML type of the values, for faults.
func (c *codec) want() string {
	if c.isBool("true") {
		return "true, false or a string"
	}
	return "a string"
}

// mustSet sets v to a default.
func (c *codec) mustSet(v reflect.Value, s string) {
	problem := ""
	switch c.form {
	case "boolean":
		v.SetBool(s == "true")
	case "integer":
		n, err := strconv.ParseInt(s, 10, 64)
		if problem = c.setInt(v, n); err != nil {
			problem = err.Error()
		}
	default:
		problem = c.set(v, s, "/")
	}
	if problem != "" {
		panic("config: a default of the declarations " + problem)
	}
}

// setInt sets v to n if n is valid.
func (c *codec) setInt(v reflect.Value, n int64) (problem string) {
	switch {
	case c.only != nil && !slices.Contains(c.only, n):
		return "is not a valid value; must be " + c.onlyText()
	case n < c.min || n > c.max:
		return "is out of range; must be from " + strconv.FormatInt(c.min, 10) + " to " + strconv.FormatInt(c.max, 10)
	case v.CanUint():
		v.SetUint(uint64(n))
	default:
		v.SetInt(n)
	}
	return ""
}

// print returns a value as text that mustSet accepts.
func (c *codec) print(v reflect.Value) string {
	switch {
	case c.form == "boolean":
		return strconv.FormatBool(v.Bool())
	case c.form == "integer" && v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case c.form == "integer":
		return strconv.FormatInt(v.Int(), 10)
	}
	return c.text(v)
}

// onlyText returns the valid integers as "301, 302 or 308".
func (c *codec) onlyText() string {
	texts := make([]string, len(c.only))
	for i, n := range c.only {
		texts[i] = strconv.FormatInt(n, 10)
	}
	return list(texts, " or ")
}

// of returns a codec of strings that are parsed into a T.
func of[T any](parse func(s, dir string) (T, string), text func(T) string) codec {
	return codec{
		form: "string",
		set: func(v reflect.Value, s, dir string) string {
			x, problem := parse(s, dir)
			*v.Addr().Interface().(*T) = x
			return problem
		},
		text: func(v reflect.Value) string { return text(v.Interface().(T)) },
	}
}

// enumeration is a type of strings, or of integers that count from 0, that lists its values as
// texts.
type enumeration interface{ Values() []string }

// enum returns the codec of an enumeration. only are the values that the key accepts, nil for all.
func enum(t reflect.Type, only []string) codec {
	all := reflect.Zero(t).Interface().(enumeration).Values()
	values := all
	if only != nil {
		values = only
	}
	c := codec{form: "string", values: values}
	c.set = func(v reflect.Value, s, _ string) string {
		i := slices.Index(all, s)
		switch {
		case !slices.Contains(values, s):
			return notOneOf(s, values)
		case v.Kind() == reflect.String:
			v.SetString(all[i]) // not s, which would keep the text of the file in memory
		default:
			v.SetUint(uint64(i))
		}
		return ""
	}
	c.text = func(v reflect.Value) string {
		if v.Kind() == reflect.String {
			return v.String()
		}
		return all[v.Uint()]
	}
	return c
}

// codecOf returns the codec of a field, or of the elements of a list: that of the tag "as" or of
// the type. It is nil for a table.
func codecOf(t reflect.Type, tag reflect.StructTag, hasDefault bool) *codec {
	c, ok := formats[tag.Get("as")]
	switch {
	case ok:
	case bounded[t] != nil:
		c = optional(bounded[t](tag.Get("min"), tag.Get("max")), hasDefault)
	case tag.Get("as") == "size":
		c = optional(sizes(tag.Get("min"), tag.Get("max")), hasDefault)
	case byType[t].form != "":
		c = byType[t]
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Pointer:
		return nil
	case t.Kind() == reflect.Bool:
		c = codec{form: "boolean"}
	case t.Implements(reflect.TypeFor[enumeration]()):
		var only []string
		if s := tag.Get("only"); s != "" {
			only = strings.Split(s, ",")
		}
		c = enum(t, only)
		c.empty = !hasDefault
	default:
		c = integers(tag)
	}
	return &c
}

// optional makes the empty string stand for the zero value, if the key has no default.
func optional(c codec, hasDefault bool) codec {
	if hasDefault {
		return c
	}
	text := c.text
	c.empty = true
	c.text = func(v reflect.Value) string {
		if v.IsZero() {
			return ""
		}
		return text(v)
	}
	return c
}

// integers returns a codec of the integers between two bounds, or of listed ones.
func integers(tag reflect.StructTag) codec {
	c := codec{form: "integer"}
	if only := tag.Get("only"); only != "" {
		for s := range strings.SplitSeq(only, ",") {
			c.only = append(c.only, number(s))
		}
		c.min, c.max = slices.Min(c.only), slices.Max(c.only)
		return c
	}
	c.min, c.max = number(tag.Get("min")), number(tag.Get("max"))
	return c
}

// number parses a bound.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("config: a bound of the declarations: " + err.Error())
	}
	return n
}
