"""The smallest PTX or spec that still fails in the same way."""
