"""Training runs: a recipe and its configuration become a trained model in a folder of its own.

`keras_gen.runs` imports neither Keras nor TensorFlow. Its modules `train` and `evaluate` do the
work.
"""

from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import RECIPES, Recipe, RunConfig, register

__all__ = ["RECIPES", "Recipe", "RunConfig", "RunFolder", "register"]
