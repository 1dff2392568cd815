"""Synthetic anatomy whose ground truth is known."""
