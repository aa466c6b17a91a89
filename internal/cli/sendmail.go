package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"danepost/queue"
	"danepost/queue/submit"
)

// lingerFor is how long a run in the background stays for mail that waits
// for its next attempt.
const lingerFor = 30 * time.Minute

// sendmailHelp is the part of the grammar that people type; the man page has
// the rest.
const sendmailHelp = `  -t              take the recipients from To, Cc and Bcc as well
  -i, -oi         a line with a lone dot does not end the message
  -f ADDRESS      the envelope sender; "<>" for none
  -F NAME         the full name for a From that is missing
  -odi, -odq      wait for the first attempt; only queue (else: deliver in the background)
  -v              say what happens
  -N, -R, -V      what notices are wanted, what they hold, their ID (DSN)
  -bs             speak SMTP on standard input and output
  -bp, -bi, -bv   list the queue; check the aliases; say where mail would go
  -bd, -q30m, -q  be the daemon; attempt what is queued, once

--config and --state-dir stand before the word sendmail. Other options of sendmail are taken,
and ignored where they mean nothing here. danepost(8) says more.
`

// sendmail is one run as sendmail(1), mailq(1) or newaliases(1).
type sendmail struct {
	*invocation
	args    submit.Args
	config  *Config
	source  submit.Source
	clients map[string]*submit.Client // by their sockets
}

// runSendmailCommand is `danepost sendmail`. Unlike the program of that name
// it has a help.
func runSendmailCommand(inv *invocation, args []string) error {
	if len(args) == 1 && args[0] == "--help" {
		inv.helpFor(pflag.NewFlagSet("sendmail", pflag.ContinueOnError))
		return nil
	}
	return runSendmail(inv, append([]string{"sendmail"}, args...))
}

// runSendmail is the program that argv[0] names.
func runSendmail(inv *invocation, argv []string) error {
	args, err := submit.ParseArgs(argv)
	if err != nil {
		return err
	}
	s := &sendmail{invocation: inv, args: args}
	// The caller of a setgid program names nothing that it trusts. Whoever
	// gives a configuration gets it, without the group.
	if !s.group.Setgid() && s.configFile == "" {
		s.configFile = os.Getenv("DANEPOST_CONFIG")
	}
	// -bs drops mail too; like every way it goes on with the group lowered.
	drops := args.Mode == submit.ModeDeliver || args.Mode == submit.ModeSMTP
	if s.configFile != "" || s.stateDir != "" || !drops {
		if err := s.group.Release(); err != nil {
			return err
		}
	}
	if s.config, err = inv.config(); err != nil {
		return err
	}
	s.source = submit.LocalUser(uint32(os.Getuid()), "/etc/passwd")
	switch args.Mode {
	case submit.ModeList:
		return s.list()
	case submit.ModeAliases:
		return s.checkAliases()
	case submit.ModeVerify:
		return s.verify()
	case submit.ModeServe:
		return serve(s.config, inv.Err)
	case submit.ModeRun:
		return s.runQueue()
	case submit.ModeSMTP:
		return s.smtp()
	}
	return s.deliver()
}

// deliver takes one message from standard input (-bm).
func (s *sendmail) deliver() error {
	if len(s.args.Recipients) == 0 && !s.args.FromHeaders {
		return usageError("no recipients: name them, or take them from the header with -t")
	}
	content := s.In
	if !s.args.IgnoreDots {
		content = submit.NewDotReader(content)
	}
	// A signal may end this program, as it would any: nobody was promised
	// anything yet. Only a delivery of its own is brought to an end first.
	ctx := context.Background()
	name := ""
	if !s.group.Setgid() {
		name = os.Getenv("NAME")
	}
	handed, err := s.handover().Do(ctx, s.args.Request(name), s.args.Attempt, content)
	if err != nil {
		return err
	}
	s.tell(handed)
	return nil
}

// tell says with -v what happened, and in any case what the caller must know:
// the message is safe, but something else went wrong.
func (s *sendmail) tell(h submit.Handed) {
	if h.Warning != nil {
		fmt.Fprintf(s.Err, "sendmail: warning: %s\n", strings.ReplaceAll(h.Warning.Error(), "\n", " "))
	}
	if s.args.Verbose {
		if h.Dropped {
			fmt.Fprintf(s.Err, "accepted into the maildrop as %s\n", h.Key)
		} else {
			fmt.Fprintf(s.Err, "accepted as %s\n", h.ID)
		}
	}
	if s.args.Verbose || s.args.Attempt == submit.AttemptWait {
		for _, line := range h.Waited {
			fmt.Fprintf(s.Err, "still queued: %s\n", line)
		}
	}
}

// handover lists the ways that are open to this caller.
func (s *sendmail) handover() *submit.Handover {
	h := &submit.Handover{Source: s.source, Now: time.Now, Socket: s.socket}
	drop := &submit.Maildrop{Dir: s.config.Maildrop}
	policy := gatePolicy(s.config)
	policy.SpoolDir = os.TempDir()
	gate := submit.NewGate(policy, submit.Deps{})
	h.Drop = func(r *submit.Request, content io.Reader) error {
		return s.group.Do(func() error { return drop.Write(gate, r, s.source, content) })
	}
	if s.group.Setgid() || !ownsState(s.config) {
		return h
	}
	h.Drop = func(r *submit.Request, content io.Reader) error {
		if err := mayDeliver(s.config); err != nil {
			return err
		}
		if err := makeOwnMaildrop(s.config); err != nil {
			return err
		}
		return drop.Write(gate, r, s.source, content)
	}
	h.Detach = func() error { return detach(s.config) }
	h.Attempt = s.attempt
	return h
}

// ownsState reports whether this user may hold the queue: the state directory
// is his, or is not there yet, or he is root.
func ownsState(c *Config) bool {
	if os.Geteuid() == 0 {
		return true
	}
	st, err := os.Stat(c.StateDir)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}

// mayDeliver refuses what this user's own runs could never deliver: a file
// that the configuration needs is not for his eyes. Other mistakes in it can
// be mended while the message waits.
func mayDeliver(c *Config) error {
	err := c.checkDelivery()
	if !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return &submit.Error{
		Code: submit.ExitNoPerm, Err: err,
		Text: "no daemon answers on " + c.sockets()[0] + ", and this user may not read what a delivery of his own needs: start danepost serve",
	}
}

func makeOwnMaildrop(c *Config) error {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return submit.CannotCreate("no daemon answers on "+c.sockets()[0]+
			", and this user has no place for a queue: start danepost serve, or let every user drop mail (GROUPS in danepost(8))", err)
	}
	return (&submit.Maildrop{Dir: c.Maildrop}).Create()
}

// client talks to the daemon at path. A session of SMTP hands over all of its
// messages through one connection.
func (s *sendmail) client(path string) *submit.Client {
	if s.clients == nil {
		s.clients = map[string]*submit.Client{}
	}
	if s.clients[path] == nil {
		s.clients[path] = &submit.Client{Path: path, Keep: s.args.Mode == submit.ModeSMTP}
	}
	return s.clients[path]
}

func (s *sendmail) socket(ctx context.Context, r *submit.Request, content io.Reader) (submit.Submission, error) {
	var err error
	for _, path := range s.config.sockets() {
		var sub submit.Submission
		if sub, err = s.client(path).Submit(ctx, r, content); !errors.Is(err, submit.ErrNoDaemon) {
			return sub, err
		}
	}
	return submit.Submission{}, err
}

// attempt is -odi without a daemon: take the queue, try everything due, and
// say what became of the message with this key.
func (s *sendmail) attempt(key string) ([]string, error) {
	ctx, stop := untilSignal()
	defer stop()
	err := runQueueOnce(ctx, s.config, backgroundLog(), 0)
	var list []queue.Summary
	if err == nil {
		list, _, err = listQueue(ctx, s.config, queue.Filter{DropKey: submit.DropKey(s.source.UID, key)})
	}
	if errors.Is(err, queue.ErrLocked) {
		return nil, nil // whoever holds it imports the message after us, or has it
	}
	var lines []string
	for _, m := range list {
		for _, r := range m.Recipients {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", m.QueueID, r.Address, recipientWords(r)))
		}
	}
	return lines, err
}

// detach starts `danepost queue run` in a session of its own.
func detach(c *Config) error {
	if err := c.checkDelivery(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"danepost"}
	if c.File != "" {
		args = append(args, "--config", c.File)
	}
	args = append(args, "--state-dir", c.StateDir, "queue", "run", "--linger", lingerFor.String())
	cmd := &exec.Cmd{Path: self, Args: args, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// list is -bp.
func (s *sendmail) list() error {
	ctx, stop := untilSignal()
	defer stop()
	list, err := s.listQueue(ctx, s.config, queue.Filter{})
	if err != nil {
		return err
	}
	return submit.WriteMailq(s.Out, list, time.Local)
}

// runQueue is -q: attempt what is queued, all or what -qI, -qR, -qS select.
func (s *sendmail) runQueue() error {
	ctx, stop := untilSignal()
	defer stop()
	f := queue.Filter{Recipient: s.args.Select.Recipient, Sender: s.args.Select.Sender, Substring: true}
	if id := s.args.Select.ID; id != "" {
		f.IDs = []string{id}
	}
	_, err := kickQueue(ctx, s.config, f)
	return err
}

// checkAliases is -bi: there is no database to build, so the file is checked.
func (s *sendmail) checkAliases() error {
	file := s.config.Rewrite.Aliases
	if file == "" {
		fmt.Fprintln(s.Out, "no aliases file is configured ([rewrite] aliases)")
		return nil
	}
	aliases, err := submit.LoadAliases(file)
	if err != nil {
		return err
	}
	if err := aliases.Check(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s: %d aliases, all in order; the file is read at each message\n", file, aliases.Len())
	return nil
}

// verify is -bv: where the recipients' mail would go. Mail that would be held
// is taken, but goes nowhere until the configuration says where.
func (s *sendmail) verify() error {
	held := 0
	policy := gatePolicy(s.config)
	if len(s.args.Recipients) == 0 {
		return usageError("-bv: no recipients")
	}
	for _, word := range s.args.Recipients {
		boxes, err := submit.ParseRecipients(word)
		if err != nil {
			return err
		}
		for _, box := range boxes {
			for _, r := range policy.Resolve(box) {
				fmt.Fprintf(s.Out, "%s -> %s\n", box, or(r.Hold == "", r.Address, "held: "+r.Hold))
				if r.Hold != "" {
					held++
				}
			}
		}
	}
	if held > 0 {
		return configError(fmt.Errorf("mail for %s would be held, not delivered", plural(held, "recipient")))
	}
	return nil
}
