"""The hardening of an nnU-Net: its results folder in, a results folder that nnU-Net loads out."""
