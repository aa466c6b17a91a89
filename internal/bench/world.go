package bench

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Addresses of the mini-internet. The namespace's loopback owns all of
// 10.53/16, so nothing of it can leave the machine. They are no loopback
// addresses, which some of the programs measured treat differently.
const (
	network    = "10.53.0.1/16"
	rootServer = "10.53.0.1"
	tldServer  = "10.53.0.2"
	hosts      = 200 // name servers at 10.53.1.x and mail servers at 10.53.2.x
)

const (
	dayTTL  = 86400 // of the root's and the TLDs' records
	hourTTL = 3600  // of the domains' records
)

// signatureDays is how long a world on the disk can be used again.
const signatureDays = 30

// World is the mini-internet on the disk: zone files and configurations for
// NSD, hints and anchor for resolvers, and the receivers' certificate. A
// signed root delegates to nsec. and nsec3., named after how they deny, and
// those to Count signed domains with MX, A and TLSA 3 1 1.
type World struct {
	Dir    string
	Count  int
	Made   time.Time
	serves []authority
}

func (w *World) path(name string) string { return filepath.Join(w.Dir, name) }

// Domain returns the name of the i-th domain, without the final dot. Names
// alternate between the TLDs.
func (w *World) Domain(i int) string { return fmt.Sprintf("d%05d.%s", i, tlds[i%2]) }

// The TLDs; the second denies by NSEC3.
var tlds = [2]string{"nsec", "nsec3"}

func serverOf(i int) string   { return fmt.Sprintf("10.53.1.%d", 1+i/2%hosts) }
func receiverOf(i int) string { return fmt.Sprintf("10.53.2.%d", 1+i/2%hosts) }

// OpenWorld returns the world in dir, made anew where it is missing, too
// small or too old. A larger one serves as well: only its first domains are
// used then.
func OpenWorld(dir string, count int) (*World, error) {
	w := &World{Dir: dir}
	stamp := w.path("world.json")
	if data, err := os.ReadFile(stamp); err == nil && json.Unmarshal(data, w) == nil &&
		w.Count >= count && time.Since(w.Made) < (signatureDays-10)*24*time.Hour {
		w.Dir = dir
		return w, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.path("zones"), 0o755); err != nil {
		return nil, err
	}
	*w = World{Dir: dir, Count: count, Made: time.Now()}
	if err := w.make(); err != nil {
		return nil, fmt.Errorf("making the mini-internet in %s: %w", dir, err)
	}
	data, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	return w, os.WriteFile(stamp, data, 0o644)
}

// make signs and writes everything.
func (w *World) make() error {
	pin, err := w.certificate()
	if err != nil {
		return err
	}
	root := newZone(".", false, 2)
	root.add(dayTTL, ". NS a.servers.bench.", "a.servers.bench. A "+rootServer)
	var top [2]*zone
	for i, name := range tlds {
		z := newZone(name+".", name == "nsec3", 2)
		z.add(dayTTL, fmt.Sprintf("%s. NS ns.%s.", name, name), fmt.Sprintf("ns.%s. A %s", name, tldServer))
		root.delegate(dayTTL, z)
		top[i] = z
	}
	leaves := make(chan *zone)
	var writers sync.WaitGroup
	var mu sync.Mutex
	for range runtime.NumCPU() {
		writers.Go(func() {
			for z := range leaves {
				if werr := w.write(z); werr != nil {
					mu.Lock()
					err = werr
					mu.Unlock()
				}
			}
		})
	}
	for i := range w.Count {
		z := leaf(w.Domain(i), i, pin)
		top[i%2].delegate(hourTTL, z)
		leaves <- z
	}
	for _, z := range append(top[:], root) {
		leaves <- z
	}
	close(leaves)
	writers.Wait()
	if err != nil {
		return err
	}
	return w.configure(root)
}

// leaf is one mail domain. Two in four deny by NSEC3, one in each TLD.
func leaf(name string, i int, pin string) *zone {
	z := newZone(name+".", i%4 >= 2, 1)
	z.add(hourTTL,
		fmt.Sprintf("%[1]s. NS ns1.%[1]s.", name), fmt.Sprintf("ns1.%s. A %s", name, serverOf(i)),
		fmt.Sprintf("%[1]s. MX 10 mx.%[1]s.", name), fmt.Sprintf("mx.%s. A %s", name, receiverOf(i)),
		fmt.Sprintf("%s. A %s", name, receiverOf(i)),
		fmt.Sprintf("_25._tcp.mx.%s. TLSA 3 1 1 %s", name, pin))
	return z
}

func zoneFile(name string) string {
	if name == "." {
		return "zones/root"
	}
	return "zones/" + strings.TrimSuffix(name, ".")
}

func (w *World) write(z *zone) error {
	text, err := z.signed(time.Now())
	if err != nil {
		return err
	}
	return os.WriteFile(w.path(zoneFile(z.name)), []byte(text), 0o644)
}

// configure writes what servers and resolvers read. NSD runs three times:
// one that holds parent and child would answer for the child without a
// referral.
func (w *World) configure(root *zone) error {
	var names, addrs []string
	for i := range w.Count {
		names = append(names, w.Domain(i)+".")
		if i < 2*hosts && i%2 == 0 {
			addrs = append(addrs, serverOf(i))
		}
	}
	hints := ". 518400 IN NS a.servers.bench.\na.servers.bench. 518400 IN A " + rootServer + "\n"
	files := map[string]string{
		"root.hints": hints,
		"root.ds":    root.keys[0].rr.ToDS(dns.SHA256).String() + "\n",
		"nsd-root":   w.nsdConfig("nsd-root", []string{rootServer}, []string{"."}),
		"nsd-tld":    w.nsdConfig("nsd-tld", []string{tldServer}, []string{tlds[0] + ".", tlds[1] + "."}),
		"nsd-leaf":   w.nsdConfig("nsd-leaf", addrs, names),
	}
	for name, text := range files {
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// certificate makes the one certificate of all receivers and returns the
// association data of TLSA 3 1 1 (RFC 6698 §2.1).
func (w *World) certificate() (string, error) {
	der, key, err := selfSigned("mx.bench")
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	pair := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pair = append(pair, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), os.WriteFile(w.path("receiver.pem"), pair, 0o644)
}
