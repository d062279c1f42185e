"""Functions that build Keras models: encoders, decoders, generators and discriminators.

Instead of these models, you can use any built Keras model with the input and output shapes that
your keras_gen model needs.
"""

from keras_gen.networks.columns import ColumnFeatures, MissingAsZero
from keras_gen.networks.conv import conv_decoder, conv_encoder
from keras_gen.networks.dcgan import dcgan_discriminator, dcgan_generator
from keras_gen.networks.mlp import mlp

__all__ = [
    "ColumnFeatures",
    "MissingAsZero",
    "conv_decoder",
    "conv_encoder",
    "dcgan_discriminator",
    "dcgan_generator",
    "mlp",
]
