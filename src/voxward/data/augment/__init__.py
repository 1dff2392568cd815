"""Random transforms: parameters are drawn first, then applied by deterministic functions."""
