package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mpgate/config"
)

const (
	// stickyFile is the file in the state directory with the key that signs sticky cookies.
	stickyFile = "sticky.key"
	// minStickyKey is how long a key must be, in bytes without white space around it.
	minStickyKey = 32
)

// stickyKey returns the key that signs the cookie of a backend. The one in the state directory is
// made if there is none: it is the same after a restart or an upgrade, and may be copied to other
// gateways. nil: the backend uses no cookie.
func stickyKey(cfg *config.Config, b *config.Backend) ([]byte, error) {
	if b.Sticky == nil {
		return nil, nil
	}
	if b.Sticky.Key != "" {
		key, err := readStickyKey(b.Sticky.Key)
		if err != nil {
			return nil, &keyError{"sticky.key", err}
		}
		return key, nil
	}
	name := filepath.Join(cfg.StateDir, stickyFile)
	key, err := readStickyKey(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeStickyKey(name); err == nil {
			key, err = readStickyKey(name)
		}
	}
	if err != nil {
		return nil, &keyError{"sticky", fmt.Errorf("needs a key in state_dir: %w", err)}
	}
	return key, nil
}

func readStickyKey(name string) ([]byte, error) {
	data, _, err := readContent(name)
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); len(data) < minStickyKey {
		return nil, fmt.Errorf("%s has %d bytes; a key must have at least %d, for example those that openssl rand -hex 32 prints", name, len(data), minStickyKey)
	}
	return data, nil
}

// makeStickyKey writes a random key. If another process makes one at the same time, the file that
// is there first stays.
func makeStickyKey(name string) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, stickyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(randomKey()) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Link(f.Name(), name)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func randomKey() []byte {
	var key [minStickyKey]byte
	_, _ = rand.Read(key[:]) // never fails
	return key[:]
}
