package deliver

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// scram is SCRAM without channel binding (RFC 5802, RFC 7677): the password
// itself is not sent, and the server shows that it knows it too.
type scram struct {
	mech               string
	hash               func() hash.Hash
	username, password string
	nonce              string // ours
	firstBare          string
	serverSignature    []byte
	proved             bool
}

func newSCRAM(mech, username, password string) *scram {
	s := &scram{mech: mech, hash: sha256.New, username: username, password: password, nonce: rand.Text()}
	if mech == "SCRAM-SHA-1" {
		s.hash = sha1.New
	}
	return s
}

func (s *scram) name() string { return s.mech }

// start is the client-first-message (RFC 5802 §7).
func (s *scram) start() ([]byte, error) {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.username)
	s.firstBare = "n=" + name + ",r=" + s.nonce
	return []byte("n,," + s.firstBare), nil
}

func (s *scram) next(challenge []byte) ([]byte, error) {
	if s.serverSignature == nil {
		return s.final(string(challenge))
	}
	return []byte{}, s.verify(string(challenge))
}

// final answers the server-first-message with the proof (RFC 5802 §3).
func (s *scram) final(serverFirst string) ([]byte, error) {
	f := scramFields(serverFirst)
	salt, err := base64.StdEncoding.DecodeString(f["s"])
	rounds, err2 := strconv.Atoi(f["i"])
	switch {
	case f["m"] != "":
		return nil, errors.New("the server demands an unknown extension")
	case err != nil || err2 != nil || len(salt) == 0 || rounds < 1:
		return nil, errors.New("the server's first message is malformed")
	case rounds > maxSASLIterations:
		return nil, fmt.Errorf("the server asks for %d rounds, more than %d", rounds, maxSASLIterations)
	case !strings.HasPrefix(f["r"], s.nonce) || len(f["r"]) == len(s.nonce):
		return nil, errors.New("the server does not repeat our nonce")
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, rounds, s.hash().Size())
	if err != nil {
		return nil, err
	}
	withoutProof := "c=biws,r=" + f["r"] // "biws" is "n,,"
	message := []byte(s.firstBare + "," + serverFirst + "," + withoutProof)
	clientKey := s.mac(salted, []byte("Client Key"))
	h := s.hash()
	h.Write(clientKey)
	signature := s.mac(h.Sum(nil), message)
	proof := make([]byte, len(clientKey))
	for i := range proof {
		proof[i] = clientKey[i] ^ signature[i]
	}
	s.serverSignature = s.mac(s.mac(salted, []byte("Server Key")), message)
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// verify checks the server-final-message.
func (s *scram) verify(serverFinal string) error {
	f := scramFields(serverFinal)
	if f["e"] != "" {
		return errors.New("the server refuses: " + oneLine(f["e"]))
	}
	got, err := base64.StdEncoding.DecodeString(f["v"])
	if err != nil || !hmac.Equal(got, s.serverSignature) {
		return errors.New("the server does not know the password either")
	}
	s.proved = true
	return nil
}

// done: success is not taken on a word; some servers put their signature into
// a challenge, and one that sends none has not proved itself.
func (s *scram) done() error {
	if !s.proved {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}

func (s *scram) mac(key, data []byte) []byte {
	m := hmac.New(s.hash, key)
	m.Write(data)
	return m.Sum(nil)
}

func scramFields(s string) map[string]string {
	out := map[string]string{}
	for _, f := range strings.Split(s, ",") {
		if k, v, ok := strings.Cut(f, "="); ok && len(k) == 1 {
			out[k] = v
		}
	}
	return out
}
