package backend

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	b := budget{}
	now := epoch.Add(time.Hour)
	allowed := func() (n int) {
		for b.take(0.2, now) {
			n++
		}
		return n
	}
	if n := allowed(); n != budgetFloor*budgetWindow {
		t.Errorf("without requests: %d retries, want %d", n, budgetFloor*budgetWindow)
	}
	if n := allowed(); n != 0 {
		t.Errorf("%d more", n)
	}
	for range budgetWindow {
		b.requests.Add(1000)
		now = now.Add(time.Second)
		b.tick(now)
	}
	// The window has the last nine whole seconds and the present one.
	if n := allowed(); n != 9*1000/5 {
		t.Errorf("with 9,000 requests: %d retries, want 1,800", n)
	}
	now = now.Add(5 * time.Second)
	if n := allowed(); n != 0 {
		t.Errorf("5 s later: %d retries, want none", n)
	}
	now = now.Add(24 * time.Hour)
	if n := allowed(); n != budgetFloor*budgetWindow {
		t.Errorf("a day later: %d retries, want %d", n, budgetFloor*budgetWindow)
	}
}
