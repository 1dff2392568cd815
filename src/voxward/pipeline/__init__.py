"""One trained network, or several, as a pipeline from a volume to a segmentation that can be differentiated."""
