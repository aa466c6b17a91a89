package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfiguredAnchors reads IANA's file with its signature, and a file
// that somebody changed.
func TestConfiguredAnchors(t *testing.T) {
	const iana = "../../trustanchor/testdata/iana/root-anchors"
	var c Config
	c.Resolver.TrustAnchor, c.Resolver.TrustAnchorSignature = iana+".xml", iana+".p7s"
	anchors, err := configuredAnchors(&c)
	if err != nil || len(anchors) != 3 {
		t.Fatalf("%d anchors, %v", len(anchors), err)
	}
	data, err := os.ReadFile(iana + ".xml")
	if err != nil {
		t.Fatal(err)
	}
	c.Resolver.TrustAnchor = filepath.Join(t.TempDir(), "changed.xml")
	changed := strings.Replace(string(data), "38696", "38697", 1)
	if err := os.WriteFile(c.Resolver.TrustAnchor, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := configuredAnchors(&c); err == nil || !strings.Contains(err.Error(), "the signature is for another file") {
		t.Errorf("changed file: %v", err)
	}
}
