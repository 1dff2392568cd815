"""Suites: many tasks, many systems, one protocol; what is to be done, and the tables over all of it."""
