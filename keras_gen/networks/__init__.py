"""Builders of ordinary, built Keras models.

You can use any built Keras model whose input and output shapes match instead.
"""

from keras_gen.networks.conv import conv_decoder, conv_encoder
from keras_gen.networks.dcgan import dcgan_discriminator, dcgan_generator
from keras_gen.networks.mlp import mlp

__all__ = ["conv_decoder", "conv_encoder", "dcgan_discriminator", "dcgan_generator", "mlp"]
