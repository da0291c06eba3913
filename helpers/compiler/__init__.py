"""How a kernel is built: spec, architectures, toolchains, the workers and the cache. Knows nothing of attention."""
