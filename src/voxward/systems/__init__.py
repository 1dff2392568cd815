"""What is deployed, from a volume file to a segmentation: a run, an ensemble, a cascade."""
