"""Attacks on segmentation models: threat models, objectives, white-box and black-box searches."""
