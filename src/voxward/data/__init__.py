"""Data, from files on disk to prepared cases and training batches."""
