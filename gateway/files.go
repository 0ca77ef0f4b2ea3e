package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mpgate/certs"
	"mpgate/config"
	"mpgate/proxy/filter/auth"
)

// CheckFiles opens the files that a configuration names, as a start would, and reports what a start
// would refuse: certificates, keys and CA files that cannot be used, and directories that cannot be
// written to. It changes nothing and binds nothing. Files that the present user may not read or
// write are errors, too.
func CheckFiles(cfg *config.Config) []config.Fault {
	c := fileCheck{cfg: cfg}
	for i := range cfg.Listeners {
		c.listener(&cfg.Listeners[i])
	}
	for i := range cfg.Backends {
		c.backend(&cfg.Backends[i])
	}
	for i := range cfg.Routes {
		for _, check := range routeFiles {
			check(&c, &cfg.Routes[i])
		}
	}
	switch cfg.Log.Access {
	case config.AccessStdout, config.AccessStderr, config.AccessOff:
	default:
		c.note("log.access", appendable(cfg.Log.Access))
	}
	if a := cfg.Admin.Address; cfg.Admin.Written && filepath.IsAbs(a.Path) {
		c.note("admin.address", cmp.Or(free(a.Path), creatable(filepath.Dir(a.Path))))
	}
	return c.faults
}

type fileCheck struct {
	cfg    *config.Config
	faults []config.Fault
}

func (c *fileCheck) note(key string, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w for user %d; give the user that runs mpgate access, and run check as that user", err, os.Geteuid())
	}
	c.faults = append(c.faults, placed(c.cfg, key, err)...)
}

func (c *fileCheck) listener(l *config.Listener) {
	key := "listener." + l.Name
	for i, a := range l.Addresses {
		at := fmt.Sprintf("%s.address[%d]", key, i)
		switch {
		case l.Systemd != "": // it is opened only if no socket was inherited
		case filepath.IsAbs(a.Path):
			c.note(at, cmp.Or(free(a.Path), writable(filepath.Dir(a.Path))))
		case a.Host != "" && !a.IsUnix() && !a.IP().IsValid():
			c.note(at, resolves(a.Host))
		}
	}
	if l.TLS == nil {
		return
	}
	var faults certs.Faults
	if errors.As(certs.Check(certsOptions(l)), &faults) {
		for _, f := range faults {
			c.note(key+"."+f.Key, f.Err)
		}
	}
	stores := l.TLS.ACME != nil || l.TLS.Local
	for i := range l.TLS.Policies {
		stores = stores || l.TLS.Policies[i].ACME != nil || l.TLS.Policies[i].Local
	}
	if stores {
		c.note("state_dir", creatable(c.cfg.StateDir))
	}
}

func (c *fileCheck) backend(b *config.Backend) {
	if s := b.Sticky; s != nil && s.Key != "" {
		_, err := readStickyKey(s.Key)
		c.note("backend."+b.Name+".sticky.key", err)
	} else if s != nil {
		_, err := readStickyKey(filepath.Join(c.cfg.StateDir, stickyFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = creatable(c.cfg.StateDir)
		}
		c.note("backend."+b.Name+".sticky", err)
	}
	if b.TLS == nil {
		return
	}
	// A server's name is checked when it is used.
	_, err := certs.ClientConfig(clientOptions(b.TLS, "server.invalid"))
	var f certs.Fault
	if errors.As(err, &f) {
		c.note("backend."+b.Name+".tls."+f.Key, f.Err)
		return
	}
	c.note("backend."+b.Name+".tls", err)
}

// routeFiles open the files that keys of routes name.
var routeFiles = [...]func(*fileCheck, *config.Route){
	(*fileCheck).files, (*fileCheck).answer, (*fileCheck).basicAuth, (*fileCheck).jwt, (*fileCheck).forwardAuth,
	(*fileCheck).errorPages,
}

func (c *fileCheck) answer(r *config.Route) {
	if r.Answer != nil && r.Answer.File != "" {
		_, _, err := readContent(r.Answer.File)
		c.note("route."+r.Name+".answer.file", err)
	}
}

func (c *fileCheck) basicAuth(r *config.Route) {
	if a := r.BasicAuth; a != nil {
		c.note("route."+r.Name+".basic_auth.users", auth.CheckUsers(a.Users))
	}
}

func (c *fileCheck) jwt(r *config.Route) {
	if j := r.JWT; j != nil {
		if j.Keys != "" {
			c.note("route."+r.Name+".jwt.keys", auth.CheckKeys(j.Keys, j.Algorithms))
		}
		c.ca("route."+r.Name+".jwt.ca", j.CA)
	}
}

func (c *fileCheck) forwardAuth(r *config.Route) {
	if f := r.ForwardAuth; f != nil {
		c.ca("route."+r.Name+".forward_auth.ca", f.CA)
	}
}

func (c *fileCheck) errorPages(r *config.Route) {
	for status, p := range r.ErrorPages {
		if p.File != "" {
			_, _, err := readContent(p.File)
			c.note("route."+r.Name+".error_pages."+status.String(), err)
		}
	}
}

// ca checks the file of a CA; "": there is none.
func (c *fileCheck) ca(key, file string) {
	if file == "" {
		return
	}
	_, err := certs.ClientConfig(certs.ClientOptions{CA: file, ServerName: "server.invalid"})
	var f certs.Fault
	if errors.As(err, &f) {
		err = f.Err
	}
	c.note(key, err)
}

// appendable returns why a log cannot be written to path, nil if it can.
func appendable(path string) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return writable(filepath.Dir(path))
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory; name a file", path)
	}
	return access(path)
}

// free returns an error if a file other than a socket is at path.
func free(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("a file that is not a socket is there: %s; remove it or choose another path", path)
	}
	return nil // another error is that of the directory
}

// creatable is writable for a directory that is created if it is missing.
func creatable(dir string) error {
	for {
		err := writable(dir)
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		return err
	}
}

// resolves returns why a name to listen on has no address, nil if it has one.
func resolves(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), namesTime)
	defer cancel()
	if err := resolve(ctx, []string{name})[name]; err != nil {
		return fmt.Errorf("does not resolve (got %q): %w; write an address of this host", name, err)
	}
	return nil
}

// writable returns why no file can be created in a directory, nil if one can.
func writable(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	return access(dir)
}

func access(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// filesChanged asks followFiles for a new generation; it never waits. A lost name is only missing
// in the log.
func (g *Gateway) filesChanged(files []string) {
	select {
	case g.changed <- files:
	default:
	}
}

// followFiles rebuilds the TLS policies when one of their files has changed: a CA that was removed
// from a list is no longer trusted, without a reload. The configuration is not read.
func (g *Gateway) followFiles(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case files := <-g.changed:
			g.renew(ctx, files)
		}
	}
}

// renew rebuilds the generation because files of TLS policies have changed.
func (g *Gateway) renew(ctx context.Context, files []string) {
	done, err := g.rebuild(ctx)
	if !done {
		return
	}
	for _, name := range files {
		g.metrics.SetCertificateFailing(name, err != nil)
	}
	if err != nil {
		g.log.Error("changed files of a TLS policy cannot be used; the old content remains active", "files", files, "err", err)
		return
	}
	g.log.Info("files of a TLS policy reloaded", "files", files, "generation", g.gen.Load().number)
}

// rebuild replaces the generation with one of the same configuration. It is not done while the
// gateway starts, ends or is replaced.
func (g *Gateway) rebuild(ctx context.Context) (done bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load() != ready || g.isReplaced() {
		return false, nil
	}
	old := g.gen.Load()
	return true, catchPanic("renewal", func() error { return g.install(ctx, old, old.config) })
}
