// Package deliver carries mail from the queue to its next host: route (MX),
// plan (DANE and policy), session (SMTP), results and bounces.
package deliver

import (
	"context"

	"danepost/resolver"
)

// Resolver answers with validated data. It is safe for concurrent use; a
// failure is a value (Status Bogus or Indeterminate), never an error.
type Resolver interface {
	Lookup(ctx context.Context, name string, qtype uint16) *resolver.Answer
}
