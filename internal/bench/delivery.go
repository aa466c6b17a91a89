package bench

import (
	"errors"
	"fmt"
	"time"
)

// delivery is one run: messages that are queued already are let go, and the
// clock runs until the receiver has accepted the last.
type delivery struct {
	messages int
	to       func(i int) string
	reuse    bool // Postfix: with its connection cache
	memory   bool // look at memory meanwhile, which disturbs the rate
}

// deliverPostfix runs a delivery with Postfix and a fresh Unbound.
func (l *lab) deliverPostfix(w delivery) (s Sample, err error) {
	var more []string
	if w.reuse {
		more = []string{"smtp_tls_connection_reuse = yes"}
	}
	if err := l.configurePostfix(more...); err != nil {
		return nil, err
	}
	unbound, err := l.startUnbound(1)
	defer func() { err = errors.Join(err, unbound.stop()) }()
	if err != nil {
		return nil, err
	}
	receiver, err := l.startReceiver()
	defer func() { err = errors.Join(err, receiver.stop()) }()
	if err != nil {
		return nil, err
	}
	postfix, err := l.startPostfix()
	defer func() { err = errors.Join(err, postfix.stop()) }()
	if err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond)
	idle := memoryOf(postfix, unbound)
	if err := l.fillPostfix(w.messages, w.to); err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond)
	if _, err := run("postsuper", "-H", "ALL"); err != nil {
		return nil, err
	}
	r := l.running(w, receiver, postfix, unbound)
	if _, err := run("postqueue", "-f"); err != nil {
		return nil, err
	}
	s, got, err := r.finish()
	if err != nil {
		return nil, err
	}
	log, err := l.postfixLogged()
	if err != nil {
		return nil, err
	}
	proved := log.Verified == w.messages || w.reuse && log.Verified+log.Reused > 0
	if !proved || log.Sent != w.messages || log.OtherTLS != 0 || got.Plain != 0 || got.Messages != int64(w.messages) {
		return nil, fmt.Errorf("not every delivery is verified: log %+v, receiver %+v", log, got)
	}
	s["idle"] = idle
	return s, nil
}

// deliverDanepost runs a delivery with danepost. Its messages are due, so it
// begins with them as it starts: that is counted, which Postfix's start is not.
func (l *lab) deliverDanepost(w delivery) (s Sample, err error) {
	if err := l.configureDanepost(""); err != nil {
		return nil, err
	}
	receiver, err := l.startReceiver()
	defer func() { err = errors.Join(err, receiver.stop()) }()
	if err != nil {
		return nil, err
	}
	if err := l.fillDanepost(w.messages, w.to); err != nil {
		return nil, err
	}
	begin := time.Now()
	danepost, err := l.startDanepost()
	defer func() { err = errors.Join(err, danepost.stop()) }()
	if err != nil {
		return nil, err
	}
	r := l.running(w, receiver, danepost)
	r.begin, r.cpu = begin, 0
	s, got, err := r.finish()
	if err != nil {
		return nil, err
	}
	log, err := l.danepostLogged(danepost)
	if err != nil {
		return nil, err
	}
	if log.Verified != w.messages || log.Delivered != w.messages || got.Plain != 0 || got.Messages != int64(w.messages) {
		return nil, fmt.Errorf("not every delivery is verified: log %+v, receiver %+v", log, got)
	}
	return s, nil
}

// running is a delivery under way.
type running struct {
	lab      *lab
	work     delivery
	receiver *daemon
	measured []*daemon
	begin    time.Time
	cpu      time.Duration
	sinkCPU  time.Duration
	peak     *peak
}

func (l *lab) running(w delivery, receiver *daemon, measured ...*daemon) *running {
	r := &running{lab: l, work: w, receiver: receiver, measured: measured, cpu: cpuOf(measured...), sinkCPU: receiver.cpu()}
	if w.memory {
		r.peak = watchMemory(measured...)
	}
	r.begin = time.Now()
	return r
}

// finish waits for the last message and for the bookkeeping behind it.
func (r *running) finish() (Sample, Received, error) {
	got, err := r.lab.awaitMessages(r.work.messages, 5*time.Minute)
	if err != nil {
		for _, d := range r.measured {
			err = fmt.Errorf("%w; %s: %s", err, d.name, d.lastWords())
		}
		return nil, got, err
	}
	seconds := time.Unix(0, got.LastNano).Sub(r.begin).Seconds()
	time.Sleep(700 * time.Millisecond)
	n := float64(r.work.messages)
	s := Sample{
		"seconds": seconds, "rate": n / seconds, "ms": seconds / n * 1000,
		"cpu":      (cpuOf(r.measured...) - r.cpu).Seconds() / n * 1000,
		"receiver": (r.receiver.cpu() - r.sinkCPU).Seconds() / n * 1000,
		"shakes":   float64(got.Handshakes), "resumed": float64(got.Resumed), "connections": float64(got.MaxOpen),
	}
	if r.peak != nil {
		s["peak"], s["processes"] = r.peak.end()
	}
	return s, got, nil
}

func cpuOf(ds ...*daemon) time.Duration {
	var t time.Duration
	for _, d := range ds {
		t += d.cpu()
	}
	return t
}

// memoryOf is the proportional set size of all in MB.
func memoryOf(ds ...*daemon) float64 {
	var sum int64
	for _, d := range ds {
		pss, _ := d.memory()
		sum += pss
	}
	return float64(sum) / 1e6
}

// peak watches memory in the background.
type peak struct {
	quit, done chan struct{}
	mb         float64
	processes  float64
}

func watchMemory(ds ...*daemon) *peak {
	p := &peak{quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for {
			var sum int64
			count := 0
			for _, d := range ds {
				pss, n := d.memory()
				sum += pss
				count += n
			}
			p.mb, p.processes = max(p.mb, float64(sum)/1e6), max(p.processes, float64(count))
			select {
			case <-p.quit:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	return p
}

func (p *peak) end() (mb, processes float64) {
	close(p.quit)
	<-p.done
	return p.mb, p.processes
}
