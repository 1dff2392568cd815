"""Random transforms of a batch: parameters are drawn first, then deterministic functions apply them."""
