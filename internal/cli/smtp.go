package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"danepost/queue/submit"
)

// smtp speaks SMTP on standard input and output (-bs); each message goes the
// same ways as one handed over without SMTP.
func (s *sendmail) smtp() error {
	ctx, stop := untilSignal()
	defer stop()
	ways := s.handover()
	server := &submit.SMTP{
		Hostname: s.config.Hostname, MaxSize: int64(s.config.Queue.MaxMessageMB) << 20,
		Now: time.Now, Log: quiet(),
		Submit: func(ctx context.Context, r *submit.Request, _ submit.Source, content io.Reader) (submit.Receipt, error) {
			handed, err := ways.Do(ctx, r, s.args.Attempt, content)
			if err != nil {
				return submit.Receipt{}, err
			}
			return submit.Receipt{ID: or(handed.Dropped, handed.Key, handed.ID)}, nil
		},
	}
	return server.ServeStdio(ctx, s.source, s.In, s.Out)
}

// listenSMTP opens the listener of [submission]; nil when it is off.
func (a *appliance) listenSMTP() (*service, error) {
	c := a.config.Submission
	if c.Listen == "" {
		return nil, nil
	}
	server := &submit.SMTP{
		Submit: a.gate.Accept, Hostname: a.config.Hostname, MaxSize: a.gate.MaxSize,
		UsersFile: c.UsersFile, Now: time.Now, Log: a.log,
	}
	var err error
	if server.Allow, err = parseNetworks(c.Allow); err != nil {
		return nil, configError(err)
	}
	cert, err := a.config.submissionCertificate()
	if err != nil {
		return nil, configError(err)
	}
	if cert != nil {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, &submit.Error{Code: submit.ExitUnavailable, Text: "cannot listen for submissions ([submission] listen)", Err: err}
	}
	return &service{ln, func(ctx context.Context) error { return server.Serve(ctx, ln) }}, nil
}

// submissionCertificate reads tls_cert and tls_key of [submission]; nil
// without them.
func (c *Config) submissionCertificate() (*tls.Certificate, error) {
	if c.Submission.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Submission.TLSCert, c.Submission.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("submission.tls_cert: %w", err)
	}
	return &cert, nil
}
