package certs

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// watched is a file that is checked for changes. It is polled with stat(2), not watched by inotify:
// only stat notices a rename into place, Kubernetes' swap of a symbolic link two directories up,
// and changes on network file systems and container overlays alike.
type watched struct {
	path string
	info fs.FileInfo
}

func (w *watched) changed() bool {
	now, err := os.Stat(w.path)
	if err != nil {
		return w.info != nil
	}
	return w.info == nil || !os.SameFile(w.info, now) || !w.info.ModTime().Equal(now.ModTime()) || w.info.Size() != now.Size()
}

// note records the state of the file before it is read, so that a change during the read is noticed
// the next time.
func (w *watched) note() {
	w.info, _ = os.Stat(w.path)
}

// loadedPair is a pair as read.
type loadedPair struct {
	Pair
	cert     *tls.Certificate
	certFile watched
	keyFile  watched
}

// readPair reads a pair. Errors name both files, because either can be the wrong one.
func readPair(p Pair) (loadedPair, error) {
	lp := loadedPair{Pair: p, certFile: watched{path: p.Cert}, keyFile: watched{path: p.Key}}
	if p.Cert == "" || p.Key == "" {
		return lp, fmt.Errorf("a certificate needs both files (got cert = %q, key = %q)", p.Cert, p.Key)
	}
	lp.certFile.note()
	lp.keyFile.note()
	certPEM, err := readFile(p.Cert)
	if err != nil {
		return lp, pairError(p, err)
	}
	keyPEM, err := readFile(p.Key)
	if err != nil {
		return lp, pairError(p, err)
	}
	if isEncrypted(keyPEM) {
		return lp, pairError(p, errEncrypted)
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return lp, pairError(p, err)
	}
	if err := withLeaf(&c); err != nil {
		return lp, pairError(p, err)
	}
	lp.cert = &c
	return lp, nil
}

var errEncrypted = errors.New("the key is encrypted, and mpgate cannot ask for a passphrase; " +
	"decrypt it (openssl pkey -in KEY -out NEW) and let only the user of mpgate read the result")

// isEncrypted reports whether the private key in the PEM text needs a passphrase: PKCS #8 (RFC 7468
// section 11), or the header of RFC 1421 that OpenSSL writes for older formats.
func isEncrypted(text []byte) bool {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return false
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
}

func pairError(p Pair, err error) error {
	return fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
}

// pair is a source from two files.
type pair struct {
	source

	fileMu sync.Mutex
	at     loadedPair
	// suspect is set by the first poll that finds the files not fitting: the
	// two cannot be replaced at once, so only the second time is it an error.
	suspect bool
}

func newPair(m *Manager, lp loadedPair) *pair {
	p := &pair{at: lp}
	p.init(m, FromFile, lp.Cert)
	p.publish(*lp.cert)
	return p
}

// adopt uses a pair that a reload of the configuration has read.
func (p *pair) adopt(lp loadedPair) {
	p.fileMu.Lock()
	defer p.fileMu.Unlock()
	p.take(lp)
}

// poll looks for new files.
func (p *pair) poll() {
	p.fileMu.Lock()
	defer p.fileMu.Unlock()
	if !p.suspect && !p.at.certFile.changed() && !p.at.keyFile.changed() {
		return
	}
	lp, err := readPair(p.at.Pair)
	if err != nil {
		if !p.suspect {
			p.suspect = true
			return
		}
		if p.status().Err == nil || p.status().Err.Error() != err.Error() {
			p.m.log.Error("changed certificate files cannot be used; the old certificate remains active", "name", p.name, "err", err.Error())
			p.failed(err, time.Time{})
		}
		return
	}
	p.take(lp)
}

func (p *pair) take(lp loadedPair) {
	p.suspect = false
	p.at.certFile, p.at.keyFile = lp.certFile, lp.keyFile
	p.failed(nil, time.Time{})
	if sameCert(p.cur.Load(), lp.cert) {
		return
	}
	p.publish(*lp.cert)
	p.m.log.Info("certificate reloaded", "name", p.name, "not_after", lp.cert.Leaf.NotAfter)
}
