package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key is a key of the file format, as its field declares it.
type key struct {
	name     string
	index    []int // of the field
	help, eg string
	required *string // what to write if it is missing
	one      bool    // a list that may be written as one value
	inline   bool    // printed as an inline table (both forms are read)
	secret   bool    // never printed, never quoted in a fault
	list     bool    // an array of values
	codec    *codec  // of a value, or of each of a list; nil for tables
	def      reflect.Value
	defText  string
}

// keys are the keys of every table, in the order of the source.
var keys = func() map[reflect.Type][]key {
	m := map[reflect.Type][]key{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		if m[t] != nil {
			return
		}
		m[t] = keysOf(t)
		for _, k := range m[t] {
			if k.codec == nil {
				walk(tableOf(t.FieldByIndex(k.index).Type))
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	return m
}()

// tableOf is the struct of a table, of a table that may be left out, or of an array of tables.
func tableOf(t reflect.Type) reflect.Type {
	if t.Kind() != reflect.Struct {
		return t.Elem()
	}
	return t
}

func keysOf(t reflect.Type) []key {
	var ks []key
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, k := range keysOf(f.Type) {
				if k.name != f.Tag.Get("without") {
					k.index = append([]int{i}, k.index...)
					ks = append(ks, k)
				}
			}
		} else if tag, ok := f.Tag.Lookup("toml"); ok {
			ks = append(ks, newKey(f, strings.Split(tag, ",")))
		}
	}
	return ks
}

func newKey(f reflect.StructField, tag []string) key {
	k := key{
		name: tag[0], index: f.Index, help: f.Tag.Get("help"), eg: f.Tag.Get("eg"), defText: f.Tag.Get("default"),
		one: slices.Contains(tag, "one"), inline: slices.Contains(tag, "inline"), secret: slices.Contains(tag, "secret"),
	}
	if text, ok := f.Tag.Lookup("required"); ok {
		k.required = &text
	}
	t := f.Type
	if t.Kind() == reflect.Slice {
		t, k.list = t.Elem(), true
	}
	if k.codec = codecOf(t, f.Tag); k.codec == nil {
		k.list = false
		return k
	}
	if k.eg == "" {
		k.eg, _, _ = strings.Cut(k.defText, ",")
	}
	if _, ok := f.Tag.Lookup("default"); ok {
		k.def = k.value(f.Type)
	}
	return k
}

// value is the default. It panics for one that the key itself would not take: that is a mistake in
// the source.
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

// in is the field of a table that holds the key's value.
func (k *key) in(table reflect.Value) reflect.Value {
	if len(k.index) == 1 {
		return table.Field(k.index[0])
	}
	return table.FieldByIndex(k.index)
}

// texts are the values of an enumeration, for its method Values.
func texts[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// codec reads, checks, prints and describes the values of one kind.
type codec struct {
	form     string // string, integer or boolean, as in JSON Schema
	empty    bool   // an empty string stands for no value
	values   []string
	pattern  string // of the strings that may be right, for the schema
	min, max int64  // of an integer
	// set puts what a string says into v. Relative paths start at dir. A problem is "what is wrong;
	// what would be right", and v then is zero.
	set  func(v reflect.Value, s, dir string) (problem string)
	text func(v reflect.Value) string
}

// mustSet is for defaults.
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

// setInt puts n into v if it is in range.
func (c *codec) setInt(v reflect.Value, n int64) (problem string) {
	switch {
	case n < c.min || n > c.max:
		return "is out of range; must be from " + strconv.FormatInt(c.min, 10) + " to " + strconv.FormatInt(c.max, 10)
	case v.CanUint():
		v.SetUint(uint64(n))
	default:
		v.SetInt(n)
	}
	return ""
}

// of makes a codec of strings that hold a T.
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

// enum makes a codec of the values, one of which a T is.
func enum(values []string) codec {
	return codec{
		form: "string", values: values,
		set: func(v reflect.Value, s, _ string) string {
			for _, value := range values { // the declared string, so that the file's text is not kept
				if s == value {
					v.SetString(value)
					return ""
				}
			}
			return notOneOf(s, values)
		},
		text: reflect.Value.String,
	}
}

// codecOf is the codec of a field or its elements: what the tag "as" names, or what its type says;
// nil for a table.
func codecOf(t reflect.Type, tag reflect.StructTag) *codec {
	c, ok := formats[tag.Get("as")]
	switch {
	case ok:
	case tag.Get("as") == "size":
		c = sizes(tag.Get("min"), tag.Get("max"))
	case t == reflect.TypeFor[time.Duration]():
		c = durations(tag.Get("min"))
	case t.Kind() == reflect.Struct && byType[t].form == "", t.Kind() == reflect.Pointer:
		return nil
	case t.Kind() == reflect.Bool:
		c = codec{form: "boolean"}
	case byType[t].form != "":
		c = byType[t]
	case t.Kind() == reflect.String:
		c = enum(reflect.Zero(t).Interface().(interface{ Values() []string }).Values())
		if only := tag.Get("only"); only != "" {
			c = enum(strings.Split(only, ","))
		}
		_, c.empty = tag.Lookup("default")
		c.empty = !c.empty
	default:
		c = codec{form: "integer", min: number(tag.Get("min")), max: number(tag.Get("max"))}
	}
	return &c
}

// number is a bound of an integer.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("config: a bound of the declarations: " + err.Error())
	}
	return n
}
