"""Many compiles, one question: ablate, try, bisect, gate, autotune, minimize."""
