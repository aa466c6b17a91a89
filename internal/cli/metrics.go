package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"danepost/queue"
	"danepost/queue/submit"
)

// meter counts outcomes on their way from the handler to the queue.
type meter struct {
	queue.Handler
	mu     sync.Mutex
	counts map[[2]string]uint64 // outcome, security
}

func newMeter(h queue.Handler) *meter {
	return &meter{Handler: h, counts: map[[2]string]uint64{}}
}

// Deliver passes on and counts.
func (m *meter) Deliver(ctx context.Context, item *queue.Item, report func(queue.Result)) {
	m.Handler.Deliver(ctx, item, func(r queue.Result) {
		m.count(r)
		report(r)
	})
}

func (m *meter) count(r queue.Result) {
	outcome := map[queue.Outcome]string{
		queue.Later: "deferred", queue.Delivered: "delivered", queue.Failed: "bounced", queue.Held: "held",
	}[r.Outcome]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[[2]string{outcome, r.Security}]++
}

// write prints everything in the Prometheus text format.
func (a *appliance) writeMetrics(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "# HELP danepost_recipients_total Outcomes per recipient and attempt since the start.\n"+
		"# TYPE danepost_recipients_total counter\n")
	a.meter.mu.Lock()
	var lines []string
	for k, n := range a.meter.counts {
		lines = append(lines, fmt.Sprintf("danepost_recipients_total{outcome=%q,security=%q} %d\n", k[0], k[1], n))
	}
	a.meter.mu.Unlock()
	slices.Sort(lines)
	io.WriteString(w, strings.Join(lines, ""))

	list, err := a.queue.List(ctx, queue.Filter{})
	if err != nil {
		return err
	}
	messages, oldest, bytes := map[string]int{}, int64(0), int64(0)
	for _, m := range list {
		messages[m.QueueName]++
		bytes += m.MessageSize
		if oldest == 0 || m.ArrivalTime < oldest {
			oldest = m.ArrivalTime
		}
	}
	fmt.Fprintf(w, "# HELP danepost_queue_messages Messages in the queue.\n# TYPE danepost_queue_messages gauge\n")
	for _, name := range []string{"active", "incoming", "deferred", "hold"} {
		fmt.Fprintf(w, "danepost_queue_messages{queue=%q} %d\n", name, messages[name])
	}
	fmt.Fprintf(w, "# HELP danepost_queue_bytes Size of all messages in the queue.\n# TYPE danepost_queue_bytes gauge\ndanepost_queue_bytes %d\n", bytes)
	fmt.Fprintf(w, "# HELP danepost_queue_oldest_timestamp_seconds Arrival of the oldest message, 0 for an empty queue.\n"+
		"# TYPE danepost_queue_oldest_timestamp_seconds gauge\ndanepost_queue_oldest_timestamp_seconds %d\n", oldest)
	ready := 1
	if a.names.anchors.Ready() != nil {
		ready = 0
	}
	fmt.Fprintf(w, "# HELP danepost_clock_set Whether the clock can be believed; without it mail waits.\n"+
		"# TYPE danepost_clock_set gauge\ndanepost_clock_set %d\n", ready)
	return nil
}

const metricsTimeout = 10 * time.Second

// serveMetrics answers GET /metrics on ln until ctx ends. The few lines of
// HTTP/1.0 that a scraper needs are written here: net/http would add a quarter
// to the binary.
func (a *appliance) serveMetrics(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("[metrics] listen: %w", err)
		}
		wg.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(metricsTimeout))
			a.answerMetrics(ctx, conn)
		})
	}
}

func (a *appliance) answerMetrics(ctx context.Context, conn io.ReadWriter) {
	in := bufio.NewReader(io.LimitReader(conn, 8<<10))
	request, err := in.ReadString('\n')
	for line := request; err == nil && strings.TrimSpace(line) != ""; {
		line, err = in.ReadString('\n')
	}
	if err != nil {
		return
	}
	var body strings.Builder
	status := "200 OK"
	switch fields := strings.Fields(request); {
	case len(fields) < 2 || fields[0] != "GET":
		status = "405 Method Not Allowed"
	case fields[1] != "/metrics":
		status = "404 Not Found"
	default:
		if err := a.writeMetrics(ctx, &body); err != nil {
			status = "503 Service Unavailable"
		}
	}
	fmt.Fprintf(conn, "HTTP/1.0 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, body.Len(), body.String())
}

// listenMetrics opens the listener of [metrics]; nil when it is off.
func (a *appliance) listenMetrics() (*service, error) {
	addr := a.config.Metrics.Listen
	if addr == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &submit.Error{Code: submit.ExitUnavailable, Text: "cannot listen for scrapers ([metrics] listen)", Err: err}
	}
	return &service{ln, func(ctx context.Context) error { return a.serveMetrics(ctx, ln) }}, nil
}
