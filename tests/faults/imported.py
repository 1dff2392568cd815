"""What the server imports before it forks: all that a command would import while it works."""

import importlib
import pkgutil

import matplotlib
import torch

import voxward.commands

matplotlib.use("Agg")
torch.set_num_threads(1)
for module in (
    *(f"voxward.commands.{found.name}" for found in pkgutil.iter_modules(voxward.commands.__path__)),
    "contourpy", "lightning_fabric", "matplotlib.backends.backend_svg", "matplotlib.pyplot", "monai.networks.nets",
    "PIL.JpegImagePlugin", "skimage.metrics", "tensorboardX", "torch.profiler", "voxward.cli",
    "voxward.report.progress",
):  # fmt: skip
    importlib.import_module(module)
