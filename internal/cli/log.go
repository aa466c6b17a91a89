package cli

import (
	"context"
	"io"
	"log/slog"
	"log/syslog"
	"strings"
	"time"
)

// newLog returns the log of [Config.Log]. Text is made for people and for
// grep: time, words, then key=value; the level only where it is not info.
func newLog(w io.Writer, form string) *slog.Logger {
	if form == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: plainAttr}))
}

// plainAttr shortens the time to seconds and drops the level of ordinary lines.
func plainAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String(slog.TimeKey, a.Value.Time().Format(time.RFC3339))
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok && level == slog.LevelInfo {
			return slog.Attr{}
		}
		return slog.String(slog.LevelKey, strings.ToLower(a.Value.String()))
	}
	return a
}

// quiet drops everything; one-shot commands say what they have to say themselves.
func quiet() *slog.Logger { return slog.New(discard{}) }

type discard struct{}

func (discard) Enabled(context.Context, slog.Level) bool  { return false }
func (discard) Handle(context.Context, slog.Record) error { return nil }
func (d discard) WithAttrs([]slog.Attr) slog.Handler      { return d }
func (d discard) WithGroup(string) slog.Handler           { return d }

// backgroundLog is for runs that nobody watches: the system's log where there
// is one.
func backgroundLog() *slog.Logger {
	w, err := syslog.New(syslog.LOG_MAIL|syslog.LOG_INFO, "danepost")
	if err != nil {
		return quiet()
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{} // syslog stamps its own
		}
		return plainAttr(groups, a)
	}}))
}
