"""nnU-Net v2 results folders as deployed systems: read, run as nnU-Net runs them, and differentiated."""
