"""Training runs. A run trains one model and saves the model in a new folder.

`keras_gen.runs` imports neither Keras nor TensorFlow. The modules `keras_gen.runs.train` and
`keras_gen.runs.evaluate` import both and do the work.
"""

from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import RECIPES, Recipe, RunConfig, register

__all__ = ["RECIPES", "Recipe", "RunConfig", "RunFolder", "register"]
