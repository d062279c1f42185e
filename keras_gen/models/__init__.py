"""The models, one a file."""

from keras_gen.models.autoencoder import RegularizedAutoencoder
from keras_gen.models.base import GenerativeModel
from keras_gen.models.checkpoints import CheckpointError, Checkpoints
from keras_gen.models.checks import NonFiniteError
from keras_gen.models.gan import GAN
from keras_gen.models.multi_worker import WorkerLostError
from keras_gen.models.vae import VAE

__all__ = [
    "GAN",
    "VAE",
    "CheckpointError",
    "Checkpoints",
    "GenerativeModel",
    "NonFiniteError",
    "RegularizedAutoencoder",
    "WorkerLostError",
]
