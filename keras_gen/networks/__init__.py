"""Functions that build Keras models: encoders, decoders, generators and discriminators.

You do not need these functions. A model of keras_gen, such as `VAE`, also accepts networks that
you build yourself with Keras, if their input and output have the required shapes.
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
