package cli

import (
	"context"
	"errors"
	"io"
)

// service is one of the listeners that a configuration may turn on, open and
// not yet served.
type service struct {
	io.Closer
	serve func(context.Context) error
}

type services []service

// listen opens the listeners of [submission] and [metrics]; on error none
// stays open.
func (a *appliance) listen() (services, error) {
	var out services
	for _, open := range []func() (*service, error){a.listenSMTP, a.listenMetrics} {
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
