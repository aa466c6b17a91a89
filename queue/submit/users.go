package submit

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// maxBcryptCost keeps a mistyped users file from stopping a small host: 14 is
// about a second on one.
const maxBcryptCost = 14

// checkPassword looks user up in a file of "name:hash" lines and compares.
// The hashes are bcrypt ("$2b$...", "$2y$..."), as `htpasswd -nB name` makes
// them: every system has a tool for it, and its cost stops guessing. The file
// is read each time, so that a change takes effect at once.
func checkPassword(file, user, password string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, &Error{Code: ExitConfig, Text: "cannot read users_file", Err: err}
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o007 != 0 {
		return false, &Error{Code: ExitConfig, Text: fmt.Sprintf("everybody may use %s: chmod 0640 it", file)}
	}
	// An unknown name is compared as well, so that the time taken does not
	// tell which names exist. This is the hash of no known password.
	hash := "$2a$10$MkxH8O7CVe0dLm013Vyz1ujUk/jD3iBTkcU645YyWVeQnElbjD46."
	known := false
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		name, h, ok := strings.Cut(strings.TrimSpace(sc.Text()), ":")
		if ok && name == user && name != "" && name[0] != '#' {
			h, _, _ = strings.Cut(h, ":")
			hash, known = strings.TrimSpace(h), true
			break
		}
	}
	if err := sc.Err(); err != nil {
		return false, &Error{Code: ExitConfig, Text: "cannot read users_file", Err: err}
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > maxBcryptCost {
		return false, &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: the hash of %q is not bcrypt up to cost %d; make it with htpasswd -nB", file, clip(user), maxBcryptCost)}
	}
	err = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	return known && err == nil, nil
}
