"""The interface of callbacks that run code before and after a whole call of `fit`."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import keras


@runtime_checkable
class WrapsFit(Protocol):
    """Interface of a Keras callback that also runs code before and after `fit`.

    The code before `fit` can change the arguments of `fit`. The code after `fit` also runs if `fit`
    raises an error.
    """

    def around(
        self, model: keras.Model, arguments: dict[str, Any]
    ) -> AbstractContextManager[dict[str, Any]]:
        """Return a context manager that changes the arguments of `fit`, and cleans up after `fit`.

        The method `fit` of a keras_gen model enters the context manager, which yields the changed
        arguments. In the `with` block, `fit` then calls `keras.Model.fit` with these arguments.

        Args:
            model: The model that `fit` trains.
            arguments: The arguments that the user passed to `fit`, by name.
        """
