"""The folder of a training run: its files, its weights, its post-processing, and which cases it has not seen."""
