"""From a trained network and a volume to a segmentation in the volume's own geometry."""
