package bench

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// limits measures what the machine itself can do, which no mail system here
// can exceed: durable writes one after the other, and full TLS handshakes
// between both ends on its cores, with the receiver's key.
func (l *lab) limits() (Sample, error) {
	s := Sample{}
	var err error
	if s["syncs"], err = syncsPerSecond(filepath.Join(l.scratch, "syncs")); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(l.world.path("receiver.pem"), l.world.path("receiver.pem"))
	if err != nil {
		return nil, err
	}
	s["hybrid"], err = handshakesPerSecond(pair, tls.X25519MLKEM768)
	if err != nil {
		return nil, err
	}
	s["classic"], err = handshakesPerSecond(pair, tls.X25519)
	return s, err
}

// probing is how long each limit is tried.
const probing = time.Second

// syncsPerSecond appends 4 KB and syncs, again and again.
func syncsPerSecond(path string) (float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 4096)
	n, begin := 0, time.Now()
	for ; time.Since(begin) < probing; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// handshakesPerSecond does full handshakes over TCP, 16 at a time.
func handshakesPerSecond(pair tls.Certificate, group tls.CurveID) (float64, error) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return 0, err
	}
	var serving, calling sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				c.(*tls.Conn).Handshake()
				c.Read(make([]byte, 1)) // until the other side is done
			})
		}
	})
	var n atomic.Int64
	var failed atomic.Value
	begin := time.Now()
	for range 16 {
		calling.Go(func() {
			cfg := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{group}}
			for time.Since(begin) < probing {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err == nil {
					err = tls.Client(c, cfg).Handshake()
					c.Close()
				}
				if err != nil {
					failed.Store(err)
					return
				}
				n.Add(1)
			}
		})
	}
	calling.Wait()
	seconds := time.Since(begin).Seconds()
	ln.Close()
	serving.Wait()
	err, _ = failed.Load().(error)
	return float64(n.Load()) / seconds, err
}
