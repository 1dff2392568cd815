"""DICOM: series become volumes, and segmentations and contours become labels."""
