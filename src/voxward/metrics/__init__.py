"""Metrics on segmentations: how well a predicted mask agrees with the truth. `registry.METRICS` lists them."""
