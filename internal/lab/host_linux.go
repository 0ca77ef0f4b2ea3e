package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capable says why this process cannot build a lab.
func capable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("lab: capabilities: %w", err)
	}
	// NET_ADMIN for links and routes, SYS_ADMIN for namespaces.
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return errors.New("lab: network namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN; run it as root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("lab: %w; load the module tun", err)
	}
	return nil
}

// congestion finds out how the wanted congestion control can be had, without
// changing the host: the kernel lets a namespace choose only what the host
// allows everybody, but takes any from a route.
func congestion(want string) (Congestion, error) {
	read := func(name string) []string {
		b, _ := os.ReadFile(sysctlFile("net.ipv4.tcp_" + name))
		return strings.Fields(string(b))
	}
	if want == "" {
		return Congestion{strings.Join(read("congestion_control"), ""), "default"}, nil
	}
	if available := read("available_congestion_control"); !slices.Contains(available, want) {
		return Congestion{}, fmt.Errorf("lab: congestion control %q is not among those of this kernel: %s", want, strings.Join(available, ", "))
	}
	if slices.Contains(read("allowed_congestion_control"), want) {
		return Congestion{want, "namespace"}, nil
	}
	return Congestion{want, "route"}, nil
}
