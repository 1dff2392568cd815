"""Bundles of MONAI, read as data: nothing in them is imported or evaluated."""
