package soak

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// kind is what is expected of a request.
type kind uint8

const (
	good   kind = iota // one answer, which is right; one server has it, once; one line in the log
	flaky              // likewise, but several servers may have had it
	bad                // any answer or none, but no wrong one; one line
	passed             // as good, without a line: the gateway does not see it
)

// ledger counts what each place has seen of each request.
type ledger struct {
	mu      sync.Mutex
	entries []entry
	faults  []string
	failed  int
}

type entry struct {
	kind           kind
	answered       bool
	served, logged uint8
	once           bool // its method must not be repeated
}

// id is a request's number as it stands in its path.
func (l *ledger) open(k kind, once bool) (number int, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{kind: k, once: once})
	number = len(l.entries) - 1
	return number, fmt.Sprintf("id-%08d", number)
}

// numberIn finds an id in a text; false: there is none.
func numberIn(s string) (n int, ok bool) {
	_, rest, ok := strings.Cut(s, "id-")
	if !ok || len(rest) < 8 {
		return 0, false
	}
	_, err := fmt.Sscanf(rest[:8], "%d", &n)
	return n, err == nil
}

func (l *ledger) note(n int, f func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n >= 0 && n < len(l.entries) {
		f(&l.entries[n])
	}
}

func (l *ledger) served(n int) { l.note(n, func(e *entry) { e.served++ }) }

// logged says what kind of request a line is of.
func (l *ledger) logged(n int) (k kind) {
	k = bad
	l.note(n, func(e *entry) {
		e.logged++
		k = e.kind
	})
	return k
}

func (l *ledger) answered(n int) { l.note(n, func(e *entry) { e.answered = true }) }

// fail notes a broken promise.
func (l *ledger) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	if len(l.faults) < 30 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// missing is how many requests have no line in the log though they should.
func (l *ledger) missing() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.entries {
		if e := &l.entries[i]; e.kind != passed && e.logged == 0 && (e.answered || e.served > 0) {
			n++
		}
	}
	return n
}

// judge reports every promise that was broken.
func (l *ledger) judge(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost, doubled, unlogged, twice, unanswered int
	for i := range l.entries {
		e := &l.entries[i]
		switch {
		case e.kind != bad && e.answered && e.served == 0:
			lost++
		case e.kind != bad && !e.answered:
			unanswered++
		}
		if e.served > 1 && (e.once || e.kind == good || e.kind == passed) {
			doubled++
		}
		if e.kind == passed {
			continue
		}
		if e.logged == 0 && (e.answered || e.served > 0) {
			unlogged++
		}
		if e.logged > 1 {
			twice++
		}
	}
	t.Logf("%d requests: %d answered that no server had, %d without an answer, %d that servers had twice, %d without a line, %d with two lines, %d other faults",
		len(l.entries), lost, unanswered, doubled, unlogged, twice, l.failed)
	if lost+unanswered+doubled+unlogged+twice+l.failed > 0 {
		t.Errorf("promises were broken:\n%s", strings.Join(l.faults, "\n"))
	}
	if len(l.entries) < 100 {
		t.Errorf("only %d requests were made", len(l.entries))
	}
}
