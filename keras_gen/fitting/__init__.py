"""Code that `fit` needs beyond Keras.

It checks data, converts errors of a training step, writes checkpoints, changes optimizers, and
trains on several workers.
"""

from keras_gen.fitting.checkpoints import CheckpointError, Checkpoints
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import WorkerLostError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError"]
