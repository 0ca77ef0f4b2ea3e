package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	localCALife   = 10 * 365 * 24 * time.Hour
	localLeafLife = 30 * 24 * time.Hour
)

var (
	// localNames are in every local certificate.
	localNames = []string{"localhost", "127.0.0.1", "::1"}
	// reservedNames never exist on the public Internet (RFC 2606, 6762, 8375,
	// ICANN's .internal): a local CA may sign for all below them.
	reservedNames = []string{"localhost", "test", "internal", "local", "home.arpa"}
)

// local is a source from the local CA. Leaf and key live in memory only; the
// CA is on disk, so that it need be trusted once.
type local struct {
	source
	key   string // in Manager.locals
	names []string
	ca    watched // ca.key: another process may have made another CA
}

func (m *Manager) localDir() string { return filepath.Join(m.o.Dir, "local") }

// LocalCA returns the path of the local CA's certificate, for `curl --cacert`,
// and the command that makes this system trust it. It is there once a Set
// with Local is open.
func (m *Manager) LocalCA() (path, trust string) {
	path = filepath.Join(m.localDir(), "ca.pem")
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path, trustCommand(path)
}

// localNamesOf returns the names of a policy's local certificate.
func localNamesOf(p Policy) ([]string, error) {
	names := slices.Clone(localNames)
	for _, h := range append(slices.Clone(p.Hosts), p.LocalNames...) {
		if _, err := netip.ParseAddr(h); err != nil {
			if h, err = canonicalName(h); err != nil {
				return nil, err
			}
		}
		names = append(names, h)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// openLocal makes sure that the CA may sign for the names of all policies, so that only one CA is
// created.
func (m *Manager) openLocal(all []*resolved) error {
	var names []string
	for _, r := range all {
		if r.Policy.Local {
			n, err := localNamesOf(r.Policy)
			if err != nil {
				return err
			}
			names = append(names, n...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if m.o.Dir == "" {
		return errors.New("local certificates need a state directory")
	}
	slices.Sort(names)
	_, err := m.localCA(slices.Compact(names))
	return err
}

func (m *Manager) localCA(names []string) (*localCA, error) {
	ca, err := openLocalCA(m.localDir(), names, time.Now(), func(why string) {
		path, trust := m.LocalCA()
		m.log.Warn("created a new local CA; clients must trust it", "why", why, "ca", path, "trust", trust)
	})
	if err != nil {
		return nil, fmt.Errorf("local CA in %s: %w", m.localDir(), err)
	}
	return ca, nil
}

func (m *Manager) localCert(p Policy) (*local, error) {
	names, err := localNamesOf(p)
	if err != nil {
		return nil, err
	}
	key := strings.Join(names, " ")
	if l := m.locals[key]; l != nil {
		return l, nil
	}
	l := &local{key: key, names: names}
	l.ca.path = filepath.Join(m.localDir(), "ca.key")
	l.init(m, FromLocal, "local")
	if err := l.issue(); err != nil {
		return nil, err
	}
	m.locals[key] = l
	return l, nil
}

// poll renews the leaf in the last third of its life, and when the CA has changed.
func (l *local) poll(now time.Time) {
	leaf := l.cur.Load().Leaf
	if leaf.NotAfter.Sub(now) > localLeafLife/3 && !l.ca.changed() {
		return
	}
	if err := l.issue(); err != nil {
		if l.status().Err == nil {
			l.m.log.Error("cannot renew the local certificate", "err", err.Error())
		}
		l.failed(err, time.Time{})
		return
	}
	l.failed(nil, time.Time{})
}

func (l *local) issue() error {
	l.ca.note()
	ca, err := l.m.localCA(l.names)
	if err == nil && l.ca.changed() { // made just now, here or in another process
		l.ca.note()
		ca, err = l.m.localCA(l.names)
	}
	if err != nil {
		return err
	}
	c, err := ca.leaf(l.names, time.Now())
	if err != nil {
		return fmt.Errorf("local certificate: %w", err)
	}
	l.publish(*c)
	return nil
}

// localCA is the CA, as in ca.key: its key and certificate in one file that
// appears by link(2), so that of two processes one wins and both use the same.
type localCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openLocalCA reads or makes the CA in dir. A CA that ends within a leaf's life
// or may not sign for one of names (its names are constrained, for it gets
// into people's trust stores) is replaced; made is told why.
func openLocalCA(dir string, names []string, now time.Time, made func(why string)) (*localCA, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "ca.key")
	why := "no CA existed"
	ca, err := readLocalCA(file)
	switch {
	case err == nil:
		if now.Add(localLeafLife).After(ca.cert.NotAfter) {
			why = "the old one expires soon"
		} else if n := ca.excludes(names); n != "" {
			why = fmt.Sprintf("the old one may not sign for %q", n)
		} else {
			return ca, ca.export(dir)
		}
		names = append(slices.Clone(names), ca.permits()...)
		if err := os.Rename(file, file+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w; remove the file to create a new one", err)
	}
	if ca, err = newLocalCA(append(slices.Clone(reservedNames), names...), now); err != nil {
		return nil, err
	}
	if err := ca.store(file); errors.Is(err, fs.ErrExist) {
		if ca, err = readLocalCA(file); err != nil { // another process was faster
			return nil, err
		}
		return ca, ca.export(dir)
	} else if err != nil {
		return nil, err
	}
	if err := ca.export(dir); err != nil {
		return nil, err
	}
	made(why)
	return ca, nil
}

// issue makes a P-256 key and the certificate of a template for it, signed by a CA; nil: by itself.
func issue(t *x509.Certificate, by *localCA) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if by == nil {
		by = &localCA{t, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func newLocalCA(names []string, now time.Time) (*localCA, error) {
	host, _ := os.Hostname()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"mpgate"}, CommonName: "mpgate local CA " + host + " " + now.Format(time.DateOnly)},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(localCALife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		PermittedDNSDomainsCritical: true,
	}
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			continue
		}
		if ip, err := netip.ParseAddr(n); err == nil {
			t.PermittedIPRanges = append(t.PermittedIPRanges, addrRange(ip.Unmap()))
		} else {
			t.PermittedDNSDomains = append(t.PermittedDNSDomains, strings.TrimPrefix(n, "*."))
		}
	}
	cert, key, err := issue(t, nil)
	return &localCA{cert, key}, err
}

// addrRange is one address, or all of the loopback network.
func addrRange(ip netip.Addr) *net.IPNet {
	bits := ip.BitLen()
	if ip.Is4() && ip.IsLoopback() {
		ip, bits = netip.AddrFrom4([4]byte{127}), 8
	}
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, ip.BitLen())}
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		panic(err) // crypto/rand does not fail (Go 1.24)
	}
	return n.Add(n, big.NewInt(1))
}

// excludes returns one of names that the CA's constraints do not permit.
func (ca *localCA) excludes(names []string) string {
	for _, n := range names {
		ok := false
		if ip, err := netip.ParseAddr(n); err == nil {
			ok = slices.ContainsFunc(ca.cert.PermittedIPRanges, func(r *net.IPNet) bool { return r.Contains(ip.Unmap().AsSlice()) })
		} else {
			base := strings.TrimPrefix(n, "*.")
			ok = slices.ContainsFunc(ca.cert.PermittedDNSDomains, func(d string) bool { return base == d || strings.HasSuffix(base, "."+d) })
		}
		if !ok {
			return n
		}
	}
	return ""
}

func (ca *localCA) permits() []string {
	out := slices.Clone(ca.cert.PermittedDNSDomains)
	for _, r := range ca.cert.PermittedIPRanges {
		out = append(out, r.IP.String())
	}
	return out
}

func (ca *localCA) leaf(names []string, now time.Time) (*tls.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"mpgate local certificate"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(localLeafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	leaf, key, err := issue(t, ca)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func readLocalCA(file string) (*localCA, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ca := &localCA{}
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			ca.cert, err = x509.ParseCertificate(b.Bytes)
		} else {
			ca.key, err = x509.ParseECPrivateKey(b.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if ca.cert == nil || ca.key == nil || !ca.key.PublicKey.Equal(ca.cert.PublicKey) {
		return nil, fmt.Errorf("%s: not a key and its certificate", file)
	}
	return ca, nil
}

func (ca *localCA) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// store makes file, which must not exist.
func (ca *localCA) store(file string) error {
	der, err := x509.MarshalECPrivateKey(ca.key)
	if err != nil {
		return err
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), ca.certPEM()...)
	tmp, err := writeTemp(filepath.Dir(file), data, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, file)
}

// export writes ca.pem, which holds no secret.
func (ca *localCA) export(dir string) error {
	file := filepath.Join(dir, "ca.pem")
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, ca.certPEM()) {
		return nil
	}
	tmp, err := writeTemp(dir, ca.certPEM(), 0o644)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

func writeTemp(dir string, data []byte, mode os.FileMode) (string, error) {
	f, err := os.CreateTemp(dir, ".tmp-*") // 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
