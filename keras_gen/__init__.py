"""Generative models for Keras 3: regularized autoencoders, variational autoencoders and GANs."""

import pathlib
import sys

__version__ = "0.1.0"
__all__ = [
    "GAN",
    "VAE",
    "CheckpointError",
    "Checkpoints",
    "GenerativeModel",
    "NonFiniteError",
    "RegularizedAutoencoder",
    "WorkerLostError",
    "data",
    "distributions",
    "evaluation",
    "losses",
    "networks",
    "objectives",
    "regularizers",
    "serving",
]

# Importing the package registers its classes, so that `keras.saving.load_model` knows them. The command line imports what a
# command needs itself: `keras-gen --help` answers without loading TensorFlow.
if pathlib.Path(sys.argv[0] if sys.argv else "").name not in ("keras-gen", "keras-gen.exe"):
    from keras_gen import data, distributions, evaluation, losses, networks, objectives, regularizers, serving
    from keras_gen.models import (
        GAN,
        VAE,
        CheckpointError,
        Checkpoints,
        GenerativeModel,
        NonFiniteError,
        RegularizedAutoencoder,
        WorkerLostError,
    )
