package cli

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"danepost/queue/submit"
	"danepost/resolver"
)

// service is one of the listeners that a configuration may turn on, open and
// not yet served.
type service struct {
	io.Closer
	serve func(context.Context) error
}

type services []service

// listen opens the daemon's listeners; on error none stays open. The socket
// comes last: it says that all is ready.
func (a *appliance) listen() (services, error) {
	var out services
	socket := func() (*service, error) { return a.listenSocket(nil) }
	for _, open := range []func() (*service, error){a.listenDNS, a.listenSMTP, a.listenMetrics, socket} {
		s, err := open()
		if err != nil {
			return nil, errors.Join(err, out.close())
		}
		if s != nil {
			out = append(out, *s)
		}
	}
	return out, nil
}

// listenMeanwhile opens what a run in the background serves: nothing but the
// socket, so that its user's programs find it and a daemon can ask it to
// yield. It delivers without, where the socket is not its user's to make.
func (a *appliance) listenMeanwhile(yield func()) services {
	s, err := a.listenSocket(yield)
	if err != nil {
		a.log.Warn("no socket while this run lasts", "reason", err.Error())
		return nil
	}
	return services{*s}
}

// listenSocket opens the socket. yield, if it is not nil, is called when a
// daemon asks for the queue.
func (a *appliance) listenSocket(yield func()) (*service, error) {
	server := &submit.Server{Gate: a.gate, Operator: a.queue, Yield: yield, Log: a.log}
	if gid, ok := submit.GroupID("danepost-adm", "/etc/group"); ok {
		server.AdminGroup = &gid
	}
	path := a.config.Socket
	ln, err := submit.ListenSocket(path)
	if err != nil {
		return nil, err
	}
	return &service{ln, func(ctx context.Context) error { return server.Serve(ctx, ln, path) }}, nil
}

func (list services) close() error {
	var err error
	for _, s := range list {
		err = errors.Join(err, s.Close())
	}
	return err
}

// listenDNS opens the name server of [resolver] listen; nil when it is off.
func (a *appliance) listenDNS() (*service, error) {
	addr, err := netip.ParseAddrPort(a.config.Resolver.Listen)
	if err != nil {
		return nil, nil // off: the configuration was checked
	}
	allow, err := parseNetworks(a.config.Resolver.ListenAllow)
	if err != nil {
		return nil, configError(err)
	}
	ln, err := a.names.Listen(resolver.ListenConfig{Addr: addr, Allow: allow})
	if err != nil {
		return nil, &submit.Error{Code: submit.ExitUnavailable, Text: "cannot serve DNS ([resolver] listen)", Err: err}
	}
	return &service{ln, func(ctx context.Context) error {
		<-ctx.Done()
		return ln.Close()
	}}, nil
}
