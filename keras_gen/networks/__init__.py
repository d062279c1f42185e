"""Functions that build Keras models: encoders, decoders, generators and discriminators.

The module also contains layers for such models. `ColumnFeatures` and `MissingAsZero` prepare data
with missing entries. A `VectorQuantizer` is the codebook of a `VectorQuantizedAutoencoder`.

You can also build networks yourself with Keras. A model of keras_gen, such as `VAE`, accepts any
built Keras model whose input and output have the required shapes.
"""

from keras_gen.networks.columns import ColumnFeatures, MissingAsZero
from keras_gen.networks.conv import (
    conv_decoder,
    conv_encoder,
    conv_grid_decoder,
    conv_grid_encoder,
)
from keras_gen.networks.dcgan import dcgan_discriminator, dcgan_generator
from keras_gen.networks.mlp import mlp
from keras_gen.networks.quantizer import Quantized, VectorQuantizer
from keras_gen.networks.residual import (
    residual_decoder,
    residual_discriminator,
    residual_encoder,
    residual_generator,
)

__all__ = [
    "ColumnFeatures",
    "MissingAsZero",
    "Quantized",
    "VectorQuantizer",
    "conv_decoder",
    "conv_encoder",
    "conv_grid_decoder",
    "conv_grid_encoder",
    "dcgan_discriminator",
    "dcgan_generator",
    "mlp",
    "residual_decoder",
    "residual_discriminator",
    "residual_encoder",
    "residual_generator",
]
