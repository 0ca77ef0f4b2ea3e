// Command sbom prints the software bill of materials of a Go binary, in CycloneDX 1.6, out of what
// the Go command recorded in it: so it names what is inside, and nothing else. The same binary
// gives the same bytes.
//
//	sbom BINARY VERSION
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type bom struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Serial      string      `json:"serialNumber"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type    string     `json:"type"`
	Ref     string     `json:"bom-ref"`
	Name    string     `json:"name"`
	Version string     `json:"version,omitempty"`
	PURL    string     `json:"purl,omitempty"`
	Hashes  []hash     `json:"hashes,omitempty"`
	Props   []property `json:"properties,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func write(w io.Writer, file, version string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	own := component{
		Type: "application", Ref: info.Main.Path, Name: info.Main.Path, Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
	}
	for _, s := range info.Settings {
		own.Props = append(own.Props, property{"go:" + s.Key, s.Value})
	}
	out := bom{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{own},
	}
	// In the shape of a version 4 UUID, of which the third and the fourth group have twelve bits of
	// their own.
	out.Serial = fmt.Sprintf("urn:uuid:%x-%x-4%s-a%s-%x", sum[0:4], sum[4:6], hex.EncodeToString(sum[6:8])[:3], hex.EncodeToString(sum[8:10])[:3], sum[10:16])
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	out.Components = append(out.Components, component{
		Type: "library", Ref: "std", Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion,
	})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out.Components = append(out.Components, module(m))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func module(m *debug.Module) component {
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	c := component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
	if m.Sum != "" { // of go.sum: the hash of a list of hashes, so none that "hashes" could hold
		c.Props = append(c.Props, property{"go:sum", m.Sum})
	}
	return c
}
