// One certificate from an ACME CA, and its life:
//
//	stored? -no-> obtain -+-> serve -> renewal due? -yes-> renew -+
//	   |                  |     ^          |no                    |
//	   +-------yes--------+     +- wait ---+<---------------------+
//	             an attempt that fails: note it, wait longer, look again
//
// certmagic does one attempt at a time here (ObtainCertSync, RenewCertSync:
// locks, keys, CSR, storage); when to try again is decided below, so that the
// goroutine is ours, its last error is known, and nothing of certmagic's
// process-wide job queue, back-off table and maintenance is used.

package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"mpgate/task"
)

// attemptTime bounds one attempt. DNS may take long.
const attemptTime = 15 * time.Minute

// managed is a source from an ACME CA.
type managed struct {
	source
	key    string // in Manager.managed
	domain string
	issuer *issuer
	ctx    context.Context
	cancel context.CancelFunc
	queued bool          // guarded by m.mu
	again  chan struct{} // start the next attempt now
	fails  int           // used only by run, like asked
	asked  time.Time
}

// manage returns the source for domain by the issuer that io describes. A stored certificate is
// used at once.
func (m *Manager) manage(io *issuerOptions, domain string) (*managed, error) {
	key := io.key + " " + domain
	if d := m.managed[key]; d != nil {
		return d, nil
	}
	is, err := m.issuerFor(io)
	if err != nil {
		return nil, err
	}
	d := &managed{key: key, domain: domain, issuer: is, again: make(chan struct{}, 1)}
	d.init(m, FromACME, domain)
	d.claims = []string{domain}
	d.ctx, d.cancel = context.WithCancel(m.ctx)
	m.managed[key] = d

	ctx, cancel := context.WithTimeout(d.ctx, 5*time.Second)
	defer cancel()
	if c, err := d.load(ctx, is.quick); err == nil {
		d.publish(c.Certificate)
	} else if !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("cannot read a stored certificate", "name", domain, "err", err.Error())
	}
	return d, nil
}

// run is the task "acme DOMAIN" of Manager.Run.
func (d *managed) run() {
	for d.ctx.Err() == nil {
		timer := time.NewTimer(d.step())
		select {
		case <-d.ctx.Done():
		case <-d.again:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step does what is due and returns the time to wait.
func (d *managed) step() time.Duration {
	select {
	case d.m.slots <- struct{}{}:
		defer func() { <-d.m.slots }()
	case <-d.ctx.Done():
		return 0
	}
	ctx, cancel := context.WithTimeout(d.ctx, attemptTime)
	defer cancel()
	var err error
	if p := task.Call("certificate of "+d.domain, func() { err = d.ensure(ctx) }); p != nil {
		err = p
	}
	d.checkExpiry(time.Now())
	if d.ctx.Err() != nil {
		return 0
	}
	if err == nil {
		if d.fails > 0 {
			d.m.log.Info("ACME has recovered", "name", d.domain, "ca", d.issuer.o.CA)
		}
		d.fails = 0
		d.failed(nil, time.Time{})
		return d.nextCheck()
	}
	wait := d.backoff()
	d.fails++
	d.failed(err, time.Now().Add(wait))
	d.m.log.Error("cannot get a certificate", "name", d.domain, "ca", d.issuer.o.CA, "serving", d.serving(),
		"err", err.Error(), "attempt", d.fails, "retry_in", wait.Round(time.Millisecond).String())
	return wait
}

// nextCheck is when to check again whether to renew. Certificates with a life of less than hours
// are checked more often.
func (d *managed) nextCheck() time.Duration {
	c := d.cur.Load()
	if c == nil {
		return d.m.o.RenewCheck
	}
	return min(d.m.o.RenewCheck, max(time.Second, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/20))
}

func (d *managed) serving() string {
	c := d.cur.Load()
	if c == nil {
		return "none"
	}
	return "certificate valid until " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)
}

// backoff doubles the wait with each failure, and spreads it by a fifth. For a certificate that
// ends sooner, attempts are more frequent.
func (d *managed) backoff() time.Duration {
	wait := d.m.o.RetryMax
	if d.fails < 30 {
		wait = min(wait, d.m.o.RetryFirst<<d.fails)
	}
	if c := d.cur.Load(); c != nil {
		if left := time.Until(c.Leaf.NotAfter); left > 0 {
			wait = min(wait, max(left/4, d.m.o.RetryFirst))
		}
	}
	return wait + time.Duration((rand.Float64()-0.5)*0.4*float64(wait))
}

// ensure makes sure that there is a certificate that needs no renewal now.
func (d *managed) ensure(ctx context.Context) error {
	is := d.issuer
	c, err := d.load(ctx, is.magic)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = is.magic.ObtainCertSync(ctx, d.domain)
	case err != nil && d.storedPairBroken(ctx):
		d.m.log.Warn("the stored certificate is unusable; it is replaced", "name", d.domain, "err", err.Error())
		err = is.magic.RenewCertSync(ctx, d.domain, true)
	case err != nil:
		return fmt.Errorf("storage: %w", err)
	default:
		d.publish(c.Certificate)
		if is.refreshARI(ctx, d, c) {
			if again, err := d.load(ctx, is.quick); err == nil {
				c = again
			}
		}
		if !c.NeedsRenewal(is.magic) {
			return nil
		}
		err = is.magic.RenewCertSync(ctx, d.domain, false)
	}
	if err != nil {
		return err
	}
	if c, err = d.load(ctx, is.magic); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	d.noteARI(ctx)
	d.publish(c.Certificate)
	d.m.log.Info("certificate obtained", "name", d.domain, "ca", is.o.CA, "not_after", c.Leaf.NotAfter)
	return nil
}

// load reads the certificate from storage. It is taken out of certmagic's
// cache again, whose maintenance so never has anything to do.
func (d *managed) load(ctx context.Context, cfg *certmagic.Config) (certmagic.Certificate, error) {
	c, err := cfg.CacheManagedCertificate(ctx, d.domain)
	if err != nil {
		return c, err
	}
	d.m.magic.Remove([]string{c.Hash()})
	return c, withLeaf(&c.Certificate)
}

// storedPairBroken reports that the storage works and the stored pair is invalid.
func (d *managed) storedPairBroken(ctx context.Context) bool {
	key := d.issuer.IssuerKey()
	certPEM, err := d.m.o.Storage.Load(ctx, certmagic.StorageKeys.SiteCert(key, d.domain))
	if err != nil {
		return false
	}
	keyPEM, err := d.m.o.Storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, d.domain))
	if err != nil {
		return false
	}
	_, err = tls.X509KeyPair(certPEM, keyPEM)
	return err != nil
}

// metadata reads what is stored with the certificate.
func (d *managed) metadata(ctx context.Context) (certmagic.CertificateResource, acme.Certificate, error) {
	var (
		res  certmagic.CertificateResource
		meta acme.Certificate
	)
	data, err := d.m.o.Storage.Load(ctx, certmagic.StorageKeys.SiteMeta(d.issuer.IssuerKey(), d.domain))
	if err == nil {
		err = json.Unmarshal(data, &res)
	}
	if err == nil && len(res.IssuerData) > 0 {
		err = json.Unmarshal(res.IssuerData, &meta)
	}
	return res, meta, err
}

// noteARI puts the renewal time of the stored certificate into the status.
func (d *managed) noteARI(ctx context.Context) {
	_, meta, err := d.metadata(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.st.RenewAt = time.Time{}
	if err == nil && meta.RenewalInfo != nil {
		d.st.RenewAt = meta.RenewalInfo.SelectedTime
	}
}

// ariInterval is the least time between two requests to a CA, whose response may lack the
// Retry-After that the RFC demands.
func ariInterval(info *acme.RenewalInfo, check time.Duration) time.Duration {
	if info.HasWindow() {
		return check
	}
	return 6 * time.Hour
}

// refreshARI asks the CA when to renew (RFC 9773), if that is due, and stores
// the answer, where certmagic's decision and other managers find it. It
// reports whether it stored something.
func (is *issuer) refreshARI(ctx context.Context, d *managed, c certmagic.Certificate) bool {
	defer d.noteARI(ctx)
	res, meta, err := d.metadata(ctx)
	if err != nil {
		return false
	}
	if meta.RenewalInfo == nil {
		meta.RenewalInfo = &acme.RenewalInfo{}
	}
	if meta.RenewalInfo.HasWindow() && !meta.RenewalInfo.NeedsRefresh() || time.Since(d.asked) < ariInterval(meta.RenewalInfo, d.m.o.RenewCheck) {
		return false
	}
	d.asked = time.Now()
	info, err := is.client(nil).GetRenewalInfo(ctx, c.Leaf)
	if errors.Is(err, acme.ErrUnsupported) {
		return false
	}
	if err != nil {
		d.m.log.Warn("cannot get the renewal time from the CA", "name", d.domain, "ca", is.o.CA, "err", err.Error())
		return false
	}
	if info.SameWindow(*meta.RenewalInfo) && !meta.RenewalInfo.SelectedTime.IsZero() {
		info.SelectedTime = meta.RenewalInfo.SelectedTime
	} else {
		d.m.log.Info("the CA suggests a different renewal time", "name", d.domain, "renew_at", info.SelectedTime, "explanation", info.ExplanationURL)
	}
	meta.RenewalInfo = &info
	if res.IssuerData, err = json.Marshal(meta); err != nil {
		return false
	}
	data, err := json.MarshalIndent(res, "", "\t")
	if err == nil {
		err = d.m.o.Storage.Store(ctx, certmagic.StorageKeys.SiteMeta(is.IssuerKey(), d.domain), data)
	}
	if err != nil {
		d.m.log.Warn("cannot store the renewal time", "name", d.domain, "err", err.Error())
		return false
	}
	return true
}
