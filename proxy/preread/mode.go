package preread

// ProxyMode says whether connections of clients begin with a PROXY header.
type ProxyMode uint8

const (
	ProxyOff ProxyMode = iota
	ProxyOptional
	ProxyRequired
)

// Values are the texts of all modes, in their order.
func (ProxyMode) Values() []string { return []string{"off", "optional", "required"} }

func (m ProxyMode) String() string { return m.Values()[m] }

// ProxyVersion is the version of the PROXY header that connections to servers begin with, 0 for
// none.
type ProxyVersion uint8

// Values are the texts of all versions, in their order.
func (ProxyVersion) Values() []string { return []string{"off", "v1", "v2"} }

func (v ProxyVersion) String() string { return v.Values()[v] }
