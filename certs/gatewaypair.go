package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"
)

// gatewayPairLife is how long the certificates of NewGatewayPair are valid. Nobody renews them by
// himself.
const gatewayPairLife = 10 * 365 * 24 * time.Hour

// A GatewayPair has the certificates of two gateways that trust each other and nobody else.
type GatewayPair struct {
	CA    []byte // PEM, of the CA that signed both. Its key is not kept: it signs nothing else.
	Names [2]string
	Certs [2][]byte // PEM
	Keys  [2][]byte // PEM
}

// NewGatewayPair makes a CA, and with it a certificate for each of two names. Both are valid for
// servers and for clients.
func NewGatewayPair(names [2]string, now time.Time) (*GatewayPair, error) {
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: serial(),
			Subject:      pkix.Name{Organization: []string{"mpgate"}, CommonName: name},
			NotBefore:    now.Add(-time.Hour),
			NotAfter:     now.Add(gatewayPairLife),
		}
	}
	t := template(fmt.Sprintf("mpgate pair %s, %s %s", names[0], names[1], now.Format(time.DateOnly)))
	t.KeyUsage, t.BasicConstraintsValid, t.IsCA, t.MaxPathLenZero = x509.KeyUsageCertSign, true, true, true
	cert, key, err := issue(t, nil)
	if err != nil {
		return nil, err
	}
	ca := &localCA{cert, key}
	p := &GatewayPair{CA: ca.certPEM(), Names: names}
	for i, name := range names {
		t := template(name)
		t.DNSNames, t.KeyUsage = []string{name}, x509.KeyUsageDigitalSignature
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		cert, key, err := issue(t, ca)
		if err != nil {
			return nil, err
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		p.Certs[i] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		p.Keys[i] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	}
	return p, nil
}
