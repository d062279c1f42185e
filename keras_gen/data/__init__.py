"""Data sources, one call: `load(source)` gives `(train, test)`."""

from keras_gen.data.sources import MNIST_MINI, load

__all__ = ["MNIST_MINI", "load"]
