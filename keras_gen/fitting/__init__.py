"""What the `fit` of a keras_gen model does in addition to `keras.Model.fit`.

The modules check data, convert TensorFlow errors to Python errors, write checkpoints, change
optimizers, and train on several workers.
"""

from keras_gen.fitting.checkpoints import CheckpointError, Checkpoints
from keras_gen.fitting.errors import NonFiniteError
from keras_gen.fitting.multi_worker import WorkerLostError

__all__ = ["CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError"]
