"""Functions that build Keras models: encoders, decoders, generators and discriminators.

These functions are optional. A model of keras_gen, such as `VAE`, accepts any built Keras model
whose input and output shapes match.
"""

from keras_gen.networks.columns import ColumnFeatures, MissingAsZero
from keras_gen.networks.conv import conv_decoder, conv_encoder
from keras_gen.networks.dcgan import dcgan_discriminator, dcgan_generator
from keras_gen.networks.mlp import mlp
from keras_gen.networks.residual import (
    residual_decoder,
    residual_discriminator,
    residual_encoder,
    residual_generator,
)

__all__ = [
    "ColumnFeatures",
    "MissingAsZero",
    "conv_decoder",
    "conv_encoder",
    "dcgan_discriminator",
    "dcgan_generator",
    "mlp",
    "residual_decoder",
    "residual_discriminator",
    "residual_encoder",
    "residual_generator",
]
