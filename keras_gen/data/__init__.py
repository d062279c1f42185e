"""Load data sets. `load(source)` returns two data sets of batches, `(train, test)`."""

from keras_gen._columns import Column
from keras_gen.data._csv import MISSING_WORDS
from keras_gen.data._table_sources import PENGUINS
from keras_gen.data.arrays import as_arrays
from keras_gen.data.loading import MNIST_MINI, class_names, load, number_of_classes
from keras_gen.data.tables import Table, is_table, read_rows, read_table

__all__ = [
    "MISSING_WORDS",
    "MNIST_MINI",
    "PENGUINS",
    "Column",
    "Table",
    "as_arrays",
    "class_names",
    "is_table",
    "load",
    "number_of_classes",
    "read_rows",
    "read_table",
]
