package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver"
	"danepost/resolver/dnssec"
	"danepost/trustanchor"
)

// looked is what a run over many domains came to. Every look-up of it was
// answered with data and proved secure: anything else is an error.
type looked struct {
	Seconds    float64 // wall time
	CPU        float64 // seconds of this process
	PSS        int64   // bytes at the end
	FirstWrong string
	Wrong      int64
}

// lookUp resolves MX, A and TLSA of one mail domain, or says what was wrong.
type lookUp func(domain string) error

// lookUpAll goes over the first n domains of the world, so many at a time.
func (w *World) lookUpAll(n, callers int, open func() (lookUp, error)) looked {
	var next, wrong atomic.Int64
	var first atomic.Value
	var wg sync.WaitGroup
	begin, cpu := time.Now(), selfCPU()
	for range callers {
		wg.Go(func() {
			one, err := open()
			if err != nil {
				wrong.Add(1)
				first.CompareAndSwap(nil, err.Error())
				return
			}
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := one(w.Domain(i)); err != nil {
					wrong.Add(1)
					first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	wg.Wait()
	text, _ := first.Load().(string)
	return looked{Seconds: time.Since(begin).Seconds(), CPU: (selfCPU() - cpu).Seconds(), Wrong: wrong.Load(), FirstWrong: text}
}

func selfCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (l looked) err() error {
	if l.Wrong == 0 {
		return nil
	}
	return fmt.Errorf("%d domains were not answered securely; the first: %s", l.Wrong, l.FirstWrong)
}

// throughServer asks a validating resolver on 127.0.0.1 over one socket, as a
// mailer would: the answer must carry the AD bit.
func throughServer() (lookUp, error) {
	c := dns.Client{Timeout: 10 * time.Second}
	conn, err := c.Dial("127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	ask := func(name string, qtype uint16) (dns.RR, error) {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		m.AuthenticatedData = true
		m.SetEdns0(1232, true)
		r, _, err := c.ExchangeWithConn(m, conn)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if r.Rcode != dns.RcodeSuccess || !r.AuthenticatedData {
			return nil, fmt.Errorf("%s: %s, authenticated: %v", name, dns.RcodeToString[r.Rcode], r.AuthenticatedData)
		}
		for _, rr := range r.Answer {
			if rr.Header().Rrtype == qtype {
				return rr, nil
			}
		}
		return nil, fmt.Errorf("%s: no data", name)
	}
	return func(domain string) error {
		mx, err := ask(domain+".", dns.TypeMX)
		if err != nil {
			return err
		}
		host := mx.(*dns.MX).Mx
		if _, err := ask(host, dns.TypeA); err != nil {
			return err
		}
		_, err = ask("_25._tcp."+host, dns.TypeTLSA)
		return err
	}, nil
}

// openResolver makes danepost's own resolver for the world, as the appliance
// does.
func (w *World) openResolver() (*resolver.Resolver, error) {
	hints, err := os.ReadFile(w.path("root.hints"))
	if err != nil {
		return nil, err
	}
	ds, err := os.ReadFile(w.path("root.ds"))
	if err != nil {
		return nil, err
	}
	c := resolver.Config{}
	if c.Hints, err = resolver.ParseHints(hints, "root.hints"); err != nil {
		return nil, err
	}
	anchors, err := trustanchor.ParseFile("root.ds", ds)
	if err != nil {
		return nil, err
	}
	c.Anchors = func() []dnssec.Anchor { return anchors }
	return resolver.New(c), nil
}

// throughLibrary asks danepost's resolver inside this process.
func throughLibrary(r *resolver.Resolver) lookUp {
	ask := func(name string, qtype uint16) (*resolver.Answer, error) {
		a := r.Lookup(context.Background(), name, qtype)
		if a.Status != dnssec.Secure || len(a.RRs) == 0 {
			return nil, fmt.Errorf("%s: %v %s", name, a.Status, a.Text)
		}
		return a, nil
	}
	return func(domain string) error {
		a, err := ask(domain, resolver.TypeMX)
		if err != nil {
			return err
		}
		mx := a.MXs()
		if len(mx) == 0 {
			return errors.New(domain + ": an MX record without host")
		}
		host := mx[0].Host.String()
		if _, err := ask(host, resolver.TypeA); err != nil {
			return err
		}
		_, err = ask("_25._tcp."+strings.TrimSuffix(host, "."), resolver.TypeTLSA)
		return err
	}
}

// runLookups is the process that measures a resolver: danepost's own, or with
// server the one on 127.0.0.1. It prints what it found as JSON.
func runLookups(worldDir string, domains, callers int, server bool) error {
	w, err := OpenWorld(worldDir, domains)
	if err != nil {
		return err
	}
	open := throughServer
	if !server {
		r, err := w.openResolver()
		if err != nil {
			return err
		}
		defer r.Close()
		one := throughLibrary(r)
		open = func() (lookUp, error) { return one, nil }
	}
	found := w.lookUpAll(domains, callers, open)
	found.PSS = selfPSS()
	return json.NewEncoder(os.Stdout).Encode(found)
}

func selfPSS() int64 {
	data, _ := os.ReadFile("/proc/self/smaps_rollup")
	return pssOf(string(data))
}
