"""Measurements; see `make bench` and each file's first lines."""
