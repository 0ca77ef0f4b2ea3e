package gateway

import (
	"mpgate/config"
	"mpgate/proxy"
	"mpgate/proxy/files"
)

// filesAction makes the action that answers with files. An Explainer's opens nothing.
func (b *builder) filesAction(r *config.Route) (proxy.Action, error) {
	f := r.Files
	o := f.Options()
	if !b.explain {
		o.Limit = &b.gateway.places
	}
	root, err := files.New(o)
	if err != nil {
		return nil, &keyError{"files", err}
	}
	a := &proxy.Files{Root: root}
	if f.Fallback != nil && f.Fallback.Backend != "" {
		a.Fallback = b.forward(r, f.Fallback.Backend)
	}
	if b.explain {
		return a, nil
	}
	b.fileRoots = append(b.fileRoots, root)
	if err := root.Check(); err != nil {
		return nil, &keyError{"files.root", err}
	}
	return a, nil
}

// closeFiles closes the files of routes that no response uses.
func (n *generation) closeFiles() {
	for _, root := range n.fileRoots {
		root.Close()
	}
}

// closeIdleFile closes an open file that no response uses.
func (n *generation) closeIdleFile() bool {
	for _, root := range n.fileRoots {
		if root.CloseIdle() {
			return true
		}
	}
	return false
}

// files opens the directory of an action as a start does.
func (c *fileCheck) files(r *config.Route) {
	if r.Files == nil {
		return
	}
	root, err := files.New(r.Files.Options())
	if err == nil {
		err = root.Check()
		root.Close()
	}
	c.note("route."+r.Name+".files.root", err)
}
