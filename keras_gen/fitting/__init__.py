"""Code that `fit` needs beyond Keras.

The modules of this package check data, convert errors of a training step, write checkpoints,
change optimizers, and train on several workers.
"""

from keras_gen.fitting.checkpoints import CheckpointError, Checkpoints
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import WorkerLostError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError"]
