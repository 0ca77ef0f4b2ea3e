package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"mpgate"}, CommonName: fmt.Sprintf("mpgate pair %s, %s %s", names[0], names[1], now.Format(time.DateOnly))},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(gatewayPairLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	p := &GatewayPair{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Names: names}
	for i, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		leaf := &x509.Certificate{
			SerialNumber: serial(),
			Subject:      pkix.Name{Organization: []string{"mpgate"}, CommonName: name},
			DNSNames:     []string{name},
			NotBefore:    now.Add(-time.Hour),
			NotAfter:     now.Add(gatewayPairLife),
			KeyUsage:     x509.KeyUsageDigitalSignature,
			ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
		if err != nil {
			return nil, err
		}
		p.Certs[i] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		p.Keys[i] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	}
	return p, nil
}
