"""Data sources: `load(source)` gives `(train, test)`."""

from keras_gen.data.arrays import as_arrays
from keras_gen.data.loading import MNIST_MINI, load

__all__ = ["MNIST_MINI", "as_arrays", "load"]
