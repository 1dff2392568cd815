"""A recipe: how a network is trained and used, as one readable file. One file here for each part of it."""

from voxward.core.recipe.augmentation import Augmentation
from voxward.core.recipe.averaging import Averaging
from voxward.core.recipe.defence import Defence
from voxward.core.recipe.inference import Inference
from voxward.core.recipe.postprocessing import PostProcessing
from voxward.core.recipe.preparation import Preparation
from voxward.core.recipe.recipe import Choice, Options, Recipe, dump_recipe, load_recipe, load_run_recipe, recipe_names
from voxward.core.recipe.sampling import Sampling
from voxward.core.recipe.search import Search
from voxward.core.recipe.training import Training

__all__ = [
    "Augmentation",
    "Averaging",
    "Choice",
    "Defence",
    "Inference",
    "Options",
    "PostProcessing",
    "Preparation",
    "Recipe",
    "Sampling",
    "Search",
    "Training",
    "dump_recipe",
    "load_recipe",
    "load_run_recipe",
    "recipe_names",
]
