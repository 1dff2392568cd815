"""Training: what a run begins with, its loop, its validation, its defence, and what it ends with."""
