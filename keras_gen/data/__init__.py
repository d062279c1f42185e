"""Load data sets. `load(source)` returns two data sets of batches, `(train, test)`."""

from keras_gen._columns import Column
from keras_gen.data.arrays import as_arrays
from keras_gen.data.loading import MNIST_MINI, load, number_of_classes

__all__ = ["MNIST_MINI", "Column", "as_arrays", "load", "number_of_classes"]
