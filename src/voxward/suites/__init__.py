"""Suites: many tasks, many systems, one protocol; what they are, what is to be done, and what it costs."""
