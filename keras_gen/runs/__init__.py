"""Training runs. A run trains one model and saves it in a new folder.

The import of `keras_gen.runs` is fast, because it imports neither Keras nor TensorFlow. The modules
`keras_gen.runs.train` and `keras_gen.runs.evaluate` import Keras and TensorFlow.
"""

from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import RECIPES, Recipe, RunConfig, for_images, for_table, register

__all__ = ["RECIPES", "Recipe", "RunConfig", "RunFolder", "for_images", "for_table", "register"]
