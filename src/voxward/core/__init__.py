"""The vocabulary: frozen values and protocols that every room shares. Imports nothing else of voxward."""
