package migrate

import (
	"fmt"
	"os"
	"testing"

	"mpgate/internal/nginxconf"
)

func TestUnsettled(t *testing.T) {
	f := os.Getenv("UNSETTLED")
	if f == "" {
		t.Skip()
	}
	tr := &translator{prefix: "/etc/nginx", done: map[*nginxconf.Directive]bool{}}
	list, _, err := nginxconf.Parse(f, "", nginxconf.Files{})
	if err != nil {
		t.Fatal(err)
	}
	tr.top(list)
	tr.prune()
	fmt.Println(string(tr.text([]string{f})))
	for _, m := range tr.sorted([]string{f}) {
		fmt.Println(m)
	}
}
