package units

import (
	"fmt"
	"slices"
	"strings"
)

// hidden are the directories that the service does not see, each with the setting of the unit that
// hides them.
var hidden = []struct {
	dirs          []string
	setting, what string
}{
	{[]string{"/home", "/root", "/run/user"}, "ProtectHome", "are not accessible to the service"},
	{[]string{"/tmp", "/var/tmp"}, "PrivateTmp", "are the service's own, and empty at its start"},
}

// Warnings lists what the gateway needs and the service would not find, a line for each reason.
func (o *Options) Warnings() (out []string) {
	for _, h := range hidden {
		var files []string
		for _, f := range o.files() {
			within := func(dir string) bool { return strings.HasPrefix(f, dir+"/") }
			if slices.ContainsFunc(h.dirs, within) && !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
		if len(files) > 0 {
			out = append(out, fmt.Sprintf("%s: %s %s (%s=yes); move it elsewhere, or set %s=no (systemctl edit mpgate) and see that the user mpgate can reach it",
				strings.Join(files, ", "), strings.Join(h.dirs, ", "), h.what, h.setting, h.setting))
		}
	}
	return out
}

// files are all files and sockets that the gateway opens or creates.
func (o *Options) files() []string {
	out := append([]string{o.Program, o.Config}, o.Keys...)
	out = append(append(out, o.Reads...), o.Writes...)
	for _, l := range o.Listeners {
		for _, a := range l.Addresses {
			if p, ok := strings.CutPrefix(a, "unix:"); ok && l.Systemd == "" {
				out = append(out, p)
			}
		}
	}
	return out
}
