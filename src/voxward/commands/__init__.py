"""One file per command; each is also a Python function of the same name."""
