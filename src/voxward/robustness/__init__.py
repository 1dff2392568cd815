"""A robustness benchmark: one record per attack on a case, and the figures that are computed from many records."""
