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

// listen opens the listeners of [resolver], [submission] and [metrics]; on
// error none stays open.
func (a *appliance) listen() (services, error) {
	var out services
	for _, open := range []func() (*service, error){a.listenDNS, a.listenSMTP, a.listenMetrics} {
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
