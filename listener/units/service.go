package units

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// beyondDrain is how much longer than shutdown.drain systemd waits, for the last connections and
// the logs.
const beyondDrain = 15 * time.Second

func (o *Options) service(sockets []string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	o.head(&b, "mpgate")
	line("")
	line("[Unit]")
	line("Description=mpgate, HTTP gateway for Multipath TCP")
	line("Documentation=man:mpgate(1)")
	line("Wants=network-online.target")
	line("After=network-online.target nss-lookup.target")
	if len(sockets) > 0 {
		line("# Started by hand or at boot, it gets the same sockets as when the first connection starts it.")
		line("Requires=%s", strings.Join(sockets, " "))
		line("After=%s", strings.Join(sockets, " "))
	}
	line("# systemd restarts it without limit.")
	line("StartLimitIntervalSec=0")
	line("")
	o.process(line, sockets)
	line("")
	o.account(line)
	o.keys(&b)
	o.capabilities(&b)
	b.WriteString(hardening)
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	if len(sockets) > 0 {
		line("Also=%s", strings.Join(sockets, " "))
	}
	return b.String()
}

// process writes how systemd starts, reloads, watches and stops the service.
func (o *Options) process(line func(format string, args ...any), sockets []string) {
	line("[Service]")
	line("Type=notify")
	line("# The new process of mpgate upgrade takes over by MAINPID=.")
	line("NotifyAccess=main")
	line("ExecStart=%s run -c %s", o.Program, o.Config)
	if o.HangUp {
		line("# The admin address is off or host:port, which is read-only: only the log has the result of a reload. With")
		line("# admin.address = \"unix:/run/mpgate/admin.sock\" systemctl reload fails if the file is invalid.")
		line("ExecReload=/bin/kill -HUP $MAINPID")
	} else {
		line("# It waits for the result: systemctl reload fails if the file is invalid.")
		line("ExecReload=%s reload -c %s", o.Program, o.Config)
	}
	for _, s := range sockets {
		line("Sockets=%s", s)
	}
	line("Restart=on-failure")
	line("RestartSec=1s")
	line("# 78: the configuration is invalid, which a restart cannot fix.")
	line("RestartPreventExitStatus=78")
	line("WatchdogSec=30s")
	line("# Above shutdown.drain (%s).", o.Drain)
	line("TimeoutStopSec=%ds", int((o.Drain+beyondDrain+time.Second-1)/time.Second))
	line("# Sockets that mpgate opened itself stay open during a restart.")
	line("FileDescriptorStoreMax=128")
	line("LimitNOFILE=524288")
	line("# The access log may go to the journal, which would drop lines.")
	line("LogRateLimitIntervalSec=0")
	line("# Memory: mpgate keeps its heap below three quarters of MemoryHigh= or MemoryMax=, if one is set (systemctl edit mpgate).")
}

// account writes the user of the service, and the directories that it may write to.
func (o *Options) account(line func(format string, args ...any)) {
	line("# The packages create the user. Otherwise: useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin mpgate")
	line("User=mpgate")
	line("RuntimeDirectory=mpgate")
	line("RuntimeDirectoryPreserve=%s", o.preserve())
	line("StateDirectory=mpgate")
	line("StateDirectoryMode=0700")
	line("LogsDirectory=mpgate")
	line("LogsDirectoryMode=0750")
	line("UMask=0027")
	for _, dir := range o.writable() {
		line("ReadWritePaths=%s", dir)
	}
}

// preserve sets how long systemd keeps /run/mpgate: sockets of .socket units in it must outlive the
// service.
func (o *Options) preserve() string {
	for _, l := range o.Listeners {
		for _, a := range l.Addresses {
			if l.Systemd != "" && strings.HasPrefix(a, "unix:/run/mpgate/") {
				return "yes"
			}
		}
	}
	return "restart"
}

// keys explains how to let the service read private keys.
func (o *Options) keys(b *strings.Builder) {
	if len(o.Keys) == 0 {
		return
	}
	b.WriteString(`
# Private keys. Either the group of the service may read them:
`)
	for _, k := range o.Keys {
		fmt.Fprintf(b, "#     chgrp mpgate %s && chmod 640 %s\n", k, k)
	}
	b.WriteString(`# and a renewed one is noticed while mpgate runs (a group such as ssl-cert does as well, with SupplementaryGroups=).
# Or systemd passes them, with key = "${CREDENTIALS_DIRECTORY}/NAME" in the configuration. It copies them once, at the
# start: after a renewal, systemctl restart mpgate, during which the sockets stay open and no connection is refused.
`)
	for _, k := range o.Keys {
		fmt.Fprintf(b, "#LoadCredential=%s:%s\n", path.Base(k), k)
	}
}

func (o *Options) capabilities(b *strings.Builder) {
	b.WriteByte('\n')
	low := o.ownPorts()
	for _, l := range low {
		fmt.Fprintf(b, "# Listener %s opens a low port itself, which needs a capability that this unit does not grant: give the listener a\n"+
			"# systemd = name, so that systemd opens it, or add CAP_NET_BIND_SERVICE to the next two lines.\n", l)
	}
	if o.NetAdmin == "" {
		b.WriteString("CapabilityBoundingSet=\nAmbientCapabilities=\n")
		if len(low) > 0 {
			b.WriteString("# PrivateUsers=yes only if systemd opens the low ports: with it, a capability does not apply to the host's ports.\n")
			return
		}
		b.WriteString("# No capability is needed.\nPrivateUsers=yes\n")
		return
	}
	fmt.Fprintf(b, "# For %s.\nCapabilityBoundingSet=CAP_NET_ADMIN\nAmbientCapabilities=CAP_NET_ADMIN\n", o.NetAdmin)
}

const hardening = `NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
# MPTCP sockets have the families INET and INET6. Netlink reports interfaces, subflows and endpoints.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
`
