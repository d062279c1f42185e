"""The interface of callbacks that run code before and after a whole call of `fit`."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import keras


@runtime_checkable
class WrapsFit(Protocol):
    """A Keras callback that can change the arguments of `fit`, and can run code after `fit`."""

    def around(
        self, model: keras.Model, arguments: dict[str, Any]
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return a context manager around one call of `keras.Model.fit`.

        The context manager yields a dictionary of arguments. `fit` of a keras_gen model then calls
        `keras.Model.fit` with these arguments, inside the context manager. So a callback can change
        the arguments before the training, and can clean up after it.

        Args:
            model: The model that `fit` trains.
            arguments: The arguments that the user passed to `fit`, by name.
        """
