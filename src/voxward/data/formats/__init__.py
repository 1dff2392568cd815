"""Dataset folder layouts. One file per layout; `open_dataset` tries them in order."""
