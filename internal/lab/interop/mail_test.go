//go:build interop

package interop

import "testing"

// TestMail is the half of mail servers and mail programs.
func TestMail(t *testing.T) {
	t.Run("Receivers", testReceivers)
	t.Run("Finger", testFinger)
	t.Run("Submitters", testSubmitters)
	t.Run("Relay", testRelay)
	t.Run("Peers", testPeers)
}
