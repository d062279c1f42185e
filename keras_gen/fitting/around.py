"""The interface of callbacks that run code before and after a whole call of `fit`."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import keras


@runtime_checkable
class WrapsFit(Protocol):
    """Protocol of the Keras callbacks that can change the arguments of `fit`.

    Such a callback can also run code after `fit`, even if `fit` raises an error.
    """

    def around(
        self, model: keras.Model, arguments: dict[str, Any]
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return a context manager in which one call of `keras.Model.fit` runs.

        The context manager yields a dictionary of arguments. The method `fit` of a keras_gen model
        then calls `keras.Model.fit` with these arguments, inside the context manager. So the
        callback can change the arguments before the training, and can clean up after the training.

        Args:
            model: The model that `fit` trains.
            arguments: The arguments that the user passed to `fit`, by name.
        """
