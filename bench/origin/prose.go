package origin

// prose fills p with a page that compresses as those of web sites do: sentences of words of which
// few are frequent and many rare (Zipf's law), in elements with attributes. It is always the same.
func prose(p []byte) {
	d := dice(88172645463325252)
	var words [4096]string
	for i := range words {
		words[i] = d.word(i)
	}
	// What people write repeats phrases, too.
	var phrases [1024]string
	for i := range phrases {
		phrases[i] = words[d.zipf(10)] + " " + words[d.zipf(6)] + " " + words[d.zipf(12)]
	}
	out := p[:0]
	put := func(s string) { out = append(out, s[:min(len(s), len(p)-len(out))]...) }
	for len(out) < len(p) {
		put("<div class=\"" + words[d.zipf(6)] + "\"><a href=\"/" + words[d.zipf(10)] + "/" + words[d.zipf(12)] + "\">" + words[d.zipf(12)] + "</a>\n<p>")
		for range 3 + d.next(5) {
			for range 6 + d.next(14) {
				if d.next(3) == 0 {
					put(phrases[d.zipf(10)] + " ")
				} else {
					put(words[d.zipf(12)] + " ")
				}
			}
			put(words[d.zipf(12)] + ". ")
		}
		put("</p></div>\n")
	}
}

// dice is a generator of random numbers (xorshift).
type dice uint64

func (d *dice) next(n int) int {
	*d ^= *d << 13
	*d ^= *d >> 7
	*d ^= *d << 17
	return int(uint64(*d) >> 11 % uint64(n))
}

// zipf is a number below 1<<bits, small ones more often: each doubling is as likely as the last.
func (d *dice) zipf(bits int) int {
	n := d.next(bits + 1)
	return (1<<n - 1 + d.next(1<<n)) & (1<<bits - 1)
}

// word is made of syllables; the first ones, which are the frequent ones, are short.
func (d *dice) word(i int) string {
	const heads, vowels, tails = "bcdfghklmnprstvw", "aeiouaei", "nrstldm"
	var w []byte
	for range 1 + min(3, i/40) + d.next(2) {
		w = append(w, heads[d.next(len(heads))], vowels[d.next(len(vowels))])
		if d.next(3) == 0 {
			w = append(w, tails[d.next(len(tails))])
		}
	}
	return string(w)
}
