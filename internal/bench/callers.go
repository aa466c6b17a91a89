package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the user that calls sendmail: an ordinary one.
const nobody = 65534

// called is what calls of sendmail came to.
type called struct {
	rate     float64 // calls a second
	p50, p99 float64 // ms
	cpu      float64 // ms a call, of the called program and its children
}

// call runs `sendmail -t -i` for each of n messages, so many at a time, as an
// ordinary user. Each call must succeed. Messages come from files and answers
// go to one, so that little but the calls takes the CPUs.
func (l *lab) call(sendmail string, n, callers int, to func(int) string) (called, error) {
	dir, err := os.MkdirTemp(l.scratch, "calls")
	if err != nil {
		return called{}, err
	}
	defer l.discard(dir)
	input := func(i int) string { return filepath.Join(dir, strconv.Itoa(i)) }
	for i := range n {
		if err := os.WriteFile(input(i), bytes.ReplaceAll(l.message(to(i), i), []byte("\r\n"), []byte("\n")), 0o644); err != nil {
			return called{}, err
		}
	}
	unix.Sync() // the files of this measurement are not part of it
	var next atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	took := make([]time.Duration, n)
	before := childrenCPU()
	begin := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				at := time.Now()
				if err := callOnce(sendmail, input(i), filepath.Join(dir, fmt.Sprintf("answer%d", c))); err != nil {
					failed.CompareAndSwap(nil, err)
				}
				took[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	seconds := time.Since(begin).Seconds()
	cpu := childrenCPU() - before
	if err, _ := failed.Load().(error); err != nil {
		return called{}, err
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return called{float64(n) / seconds, ms(took[n/2]), ms(took[n*99/100]), ms(cpu) / float64(n)}, nil
}

// callOnce hands over one message; what sendmail says goes to the file answer.
func callOnce(sendmail, message, answer string) error {
	in, err := os.Open(message)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(answer)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(sendmail, "-t", "-i", "-f", sender)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "/", in, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(answer)
		return fmt.Errorf("%s: %w: %s", sendmail, err, said)
	}
	return nil
}

func (c called) sample() Sample {
	return Sample{"rate": c.rate, "p50": c.p50, "p99": c.p99, "call": c.cpu}
}

func childrenCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// callsAlone measures calls while no daemon runs: the message is durable in
// the maildrop when the call returns.
func (l *lab) callsAlone(n, callers int, postfix bool) (Sample, error) {
	configure, sendmail, drop := func() error { return l.configureDanepost("") }, l.sendmail(), l.maildrop()
	if postfix {
		configure = func() error { return l.configurePostfix() }
		sendmail, drop = "/usr/sbin/sendmail", filepath.Join(l.postfixDir(), "spool", "maildrop")
	}
	if err := configure(); err != nil {
		return nil, err
	}
	c, err := l.call(sendmail, n, callers, l.toOne)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(drop)
	if err != nil {
		return nil, err
	}
	if len(files) != n {
		return nil, fmt.Errorf("%d messages were accepted, %d are in %s", n, len(files), drop)
	}
	return c.sample(), nil
}

// callsDelivering measures calls while the daemon runs and delivers what it
// gets to one domain. All must arrive, verified.
func (l *lab) callsDelivering(n, callers int, postfix bool) (s Sample, err error) {
	receiver, err := l.startReceiver()
	defer func() { err = errors.Join(err, receiver.stop()) }()
	if err != nil {
		return nil, err
	}
	if postfix {
		return l.postfixDelivering(n, callers)
	}
	if err := l.configureDanepost(""); err != nil {
		return nil, err
	}
	danepost, err := l.startDanepost()
	defer func() { err = errors.Join(err, danepost.stop()) }()
	if err != nil {
		return nil, err
	}
	before := danepost.cpu()
	c, err := l.call(l.sendmail(), n, callers, l.toOne)
	if err != nil {
		return nil, err
	}
	got, err := l.awaitMessages(n, time.Minute)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, danepost.lastWords())
	}
	time.Sleep(300 * time.Millisecond)
	s = c.sample()
	s["cpu"] = (danepost.cpu() - before).Seconds() * 1000 / float64(n)
	if log, err := l.danepostLogged(danepost); err != nil || log.Verified != n || got.Messages != int64(n) || got.Plain != 0 {
		return nil, fmt.Errorf("not every delivery is verified: log %+v, receiver %+v, %v", log, got, err)
	}
	return s, nil
}

func (l *lab) postfixDelivering(n, callers int) (s Sample, err error) {
	if err := l.configurePostfix(); err != nil {
		return nil, err
	}
	unbound, err := l.startUnbound(1)
	defer func() { err = errors.Join(err, unbound.stop()) }()
	if err != nil {
		return nil, err
	}
	postfix, err := l.startPostfix()
	defer func() { err = errors.Join(err, postfix.stop()) }()
	if err != nil {
		return nil, err
	}
	before := cpuOf(postfix, unbound)
	c, err := l.call("/usr/sbin/sendmail", n, callers, l.toOne)
	if err != nil {
		return nil, err
	}
	got, err := l.awaitMessages(n, time.Minute)
	if err != nil {
		return nil, err
	}
	time.Sleep(700 * time.Millisecond)
	s = c.sample()
	s["cpu"] = (cpuOf(postfix, unbound) - before).Seconds() * 1000 / float64(n)
	if log, err := l.postfixLogged(); err != nil || log.Sent != n || log.OtherTLS != 0 || got.Messages != int64(n) || got.Plain != 0 {
		return nil, fmt.Errorf("not every delivery is verified: log %+v, receiver %+v, %v", log, got, err)
	}
	return s, nil
}
