"""Extend `keras.Model.fit` for the models of keras_gen.

The modules of this folder check data, write checkpoints, provide optimizers, and train on several
workers. They also convert errors of TensorFlow to errors with readable messages.
"""

from keras_gen.fitting.checkpoints import CheckpointError, Checkpoints
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import WorkerLostError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError"]
