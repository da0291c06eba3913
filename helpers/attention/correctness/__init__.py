"""Is the answer right: inputs, references in float64, cases, numerics."""
