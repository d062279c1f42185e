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
        """Return a context manager that yields the arguments for `keras.Model.fit`.

        `fit` of a keras_gen model calls `keras.Model.fit` inside this context manager.

        Args:
            model: The model that `fit` trains.
            arguments: The arguments of `fit` by name.
        """
