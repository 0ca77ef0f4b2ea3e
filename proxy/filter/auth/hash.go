package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// passwordHash is the hash of a password.
type passwordHash interface {
	// matches may use so many threads.
	matches(password []byte, threads int64) bool
	// threads is how many of those that there are the check uses.
	threads(of int64) int64
}

// maxBcryptCost and what follows bound the time and the memory of one check: about a second, and
// 256 MiB.
const (
	maxBcryptCost    = 14
	maxArgon2Memory  = 256 << 10 // KiB
	maxArgon2Work    = 1 << 20   // KiB times passes
	maxArgon2Threads = 16
)

// parseHash parses a hash as it stands in a file. Its error does not quote the hash.
func parseHash(s string) (passwordHash, error) {
	switch {
	case strings.HasPrefix(s, "$2"):
		return parseBcrypt(s)
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon2id(s)
	}
	return nil, fmt.Errorf("%s is not supported; want bcrypt (htpasswd -B) or argon2id (mpgate hash-password)", kindOf(s))
}

// kindOf names a hash that is refused.
func kindOf(s string) string {
	for _, k := range []struct{ prefix, name string }{
		{"$apr1$", "an MD5 hash (apr1)"}, {"$1$", "an MD5 hash"}, {"{SHA}", "a SHA-1 hash"}, {"{SSHA}", "a SHA-1 hash"},
		{"$5$", "a SHA-256 crypt hash"}, {"$6$", "a SHA-512 crypt hash"}, {"$argon2", "an argon2i or argon2d hash"},
		{"$y$", "a yescrypt hash"}, {"$7$", "a scrypt hash"}, {"{PLAIN}", "a password that is not hashed"},
	} {
		if strings.HasPrefix(s, k.prefix) {
			return k.name
		}
	}
	if strings.HasPrefix(s, "$") || strings.HasPrefix(s, "{") {
		return "a hash of unknown kind"
	}
	if len(s) == 13 && strings.Trim(s, "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == "" {
		return "a DES crypt hash"
	}
	return "a password that is not hashed"
}

type bcryptHash []byte

func parseBcrypt(s string) (passwordHash, error) {
	cost, err := bcrypt.Cost([]byte(s))
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	switch {
	case err != nil || len(s) != 60 || strings.IndexByte("aby", s[2]) < 0 || strings.Trim(s[7:], alphabet) != "":
		return nil, errors.New("invalid bcrypt hash; want $2y$COST$ and 53 characters")
	case cost > maxBcryptCost:
		return nil, fmt.Errorf("a bcrypt hash of cost %d takes too long to check; the highest cost is %d", cost, maxBcryptCost)
	}
	return bcryptHash(s), nil
}

// matches compares the first 72 bytes, as all implementations of bcrypt do.
func (h bcryptHash) matches(password []byte, _ int64) bool {
	return bcrypt.CompareHashAndPassword(h, password) == nil
}

func (bcryptHash) threads(int64) int64 { return 1 }

type argon2idHash struct {
	passes, memory uint32 // memory in KiB
	lanes          uint8
	salt, key      []byte
}

// parseArgon2id parses $argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$HASH.
func parseArgon2id(s string) (passwordHash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errors.New("invalid argon2id hash; want $argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$HASH")
	}
	var n [3]uint64
	costs := strings.Split(parts[3], ",")
	for i, name := range []string{"m=", "t=", "p="} {
		var err error
		if len(costs) != 3 || !strings.HasPrefix(costs[i], name) {
			err = errors.New("missing")
		} else {
			n[i], err = strconv.ParseUint(costs[i][2:], 10, 32)
		}
		if err != nil || n[i] == 0 {
			return nil, fmt.Errorf("invalid argon2id parameters %q; want m=MEMORY,t=PASSES,p=LANES", parts[3])
		}
	}
	if n[2] > maxArgon2Threads || n[0] > maxArgon2Memory || n[0] < 8*n[2] || n[1] > maxArgon2Work/n[0] {
		return nil, fmt.Errorf("the argon2id parameters %q are out of range; want at most m=%d, p=%d and %d for m times t, and at least 8 times p for m",
			parts[3], maxArgon2Memory, maxArgon2Threads, maxArgon2Work)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(key) < 16 || len(key) > 64 {
		return nil, errors.New("invalid argon2id hash; want a salt of 8 to 64 bytes and a hash of 16 to 64, in base64 without padding")
	}
	return &argon2idHash{passes: uint32(n[1]), memory: uint32(n[0]), lanes: uint8(n[2]), salt: salt, key: key}, nil
}

func (h *argon2idHash) matches(password []byte, threads int64) bool {
	var key []byte
	if int64(h.lanes) <= threads {
		key = argon2.IDKey(password, h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	} else {
		key = argon2id(password, h.salt, h.passes, h.memory, uint32(h.lanes), uint32(len(h.key)))
	}
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// threads is the number of lanes; 1 if there are more than threads.
func (h *argon2idHash) threads(of int64) int64 {
	if int64(h.lanes) > of {
		return 1
	}
	return int64(h.lanes)
}

// HashPassword returns the argon2id hash of a password, with the cost that OWASP recommends for 46
// MiB and one thread.
func HashPassword(password []byte) string {
	h := argon2idHash{passes: 1, memory: 46 << 10, lanes: 1, salt: make([]byte, 16)}
	_, _ = rand.Read(h.salt) // never fails
	key := argon2.IDKey(password, h.salt, h.passes, h.memory, h.lanes, 32)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.passes, h.lanes, encode(h.salt), encode(key))
}
