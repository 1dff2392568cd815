"""Overlap and distance metrics on label masks."""
