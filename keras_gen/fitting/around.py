"""Callbacks that wrap the whole of `fit`."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import keras


@runtime_checkable
class WrapsFit(Protocol):
    """A Keras callback that wraps `fit`: it may change its arguments and clean up after it."""

    def around(
        self, model: keras.Model, arguments: dict[str, Any]
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return a context whose value are the arguments that `keras.Model.fit` receives.

        Args:
            model: The model that `fit` trains.
            arguments: The arguments of `fit` by name.
        """
