"""The models. Each file defines one model or one base class of the models."""

from keras_gen.models.autoencoder import RegularizedAutoencoder
from keras_gen.models.autoencoder_ensemble import AutoencoderEnsemble
from keras_gen.models.base import GenerativeModel
from keras_gen.models.gan import GAN
from keras_gen.models.hierarchical_vae import HierarchicalVAE
from keras_gen.models.vae import VAE
from keras_gen.models.vector_quantized import VectorQuantizedAutoencoder

__all__ = [
    "GAN",
    "VAE",
    "AutoencoderEnsemble",
    "GenerativeModel",
    "HierarchicalVAE",
    "RegularizedAutoencoder",
    "VectorQuantizedAutoencoder",
]
