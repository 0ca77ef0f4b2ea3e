package nginxconf

// The limits on one configuration. A configuration beyond one of them is an error.
const (
	maxFile       = 4 << 20  // bytes of a file
	maxTotal      = 32 << 20 // bytes of all files
	maxFiles      = 1000
	maxWord       = 64 << 10 // bytes
	maxArgs       = 10_000   // of a directive
	maxDirectives = 200_000
	maxDepth      = 32 // of blocks
	maxIncludes   = 16 // of files that include each other
)
