"""voxward: train, attack and harden 3D medical image segmentation."""
