package cli

import (
	"encoding/json"
	"time"

	"danepost/deliver"
	"danepost/queue/submit"
)

// checkPatience is how long check waits in each step of a session.
const checkPatience = 20 * time.Second

// runCheck is `danepost check DOMAIN`: exit 0 when mail to it would be
// delivered now, 1 when not.
func runCheck(inv *invocation, args []string) error {
	fs := inv.flags("check")
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return usageError("usage: danepost check DOMAIN")
	}
	domain, err := submit.ASCIIDomain(fs.Arg(0))
	if err != nil {
		return usageError("check: %s; what stands behind the @ of an address is wanted", err)
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	log := quiet()
	dc, err := deliverConfig(c, log)
	if err != nil {
		return configError(err)
	}
	hurry(&dc.Timeouts)
	n, err := openNames(c, log)
	if err != nil {
		return err
	}
	defer n.Close()
	d := deliver.New(dc, n)
	defer d.Close()
	ctx, stop := untilSignal()
	defer stop()
	report := d.Check(ctx, domain)
	if *asJSON {
		if err := json.NewEncoder(inv.Out).Encode(report); err != nil {
			return err
		}
	} else {
		renderCheck(inv.Out, &report)
	}
	if report.Verdict != "deliverable" {
		return exitStatus(1)
	}
	return nil
}

// hurry shortens the steps of a session for a person who waits, unless the
// configuration says how long they take.
func hurry(t *deliver.Timeouts) {
	for _, step := range []*time.Duration{&t.Connect, &t.Greeting, &t.EHLO, &t.STARTTLS} {
		if *step == 0 {
			*step = checkPatience
		}
	}
}
