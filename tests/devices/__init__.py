"""What runs on a GPU, tried on a pretend one (`tests/pretend_device.py`) with small networks and volumes."""
