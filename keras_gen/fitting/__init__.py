"""What `fit` adds to Keras: checks of data, errors of a step, checkpoints, and several workers."""

from keras_gen.fitting.checkpoints import CheckpointError, Checkpoints
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import WorkerLostError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError"]
