package netio

// SpliceMin is the least number of bytes for which moving them inside the kernel is worth its
// calls.
const SpliceMin = 32 << 10

// SpliceError says which side ended a splice.
type SpliceError struct {
	Reading bool // the source; else the destination
	Err     error
}

func (e *SpliceError) Error() string { return e.Err.Error() }
func (e *SpliceError) Unwrap() error { return e.Err }
