"""Synthetic anatomy of which the truth is known."""
