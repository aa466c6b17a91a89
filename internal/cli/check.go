package cli

import (
	"encoding/json"

	"danepost/deliver"
)

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
	c, err := inv.config()
	if err != nil {
		return err
	}
	log := quiet()
	dc, err := deliverConfig(c, log)
	if err != nil {
		return configError(err)
	}
	n, err := openNames(c, log)
	if err != nil {
		return err
	}
	defer n.Close()
	d := deliver.New(dc, n)
	defer d.Close()
	ctx, stop := untilSignal()
	defer stop()
	report := d.Check(ctx, fs.Arg(0))
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
