"""Compute methods of a model with a TensorFlow graph if the user calls them in eager mode.

The graph is faster than eager mode.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tensorflow as tf

_Method = TypeVar("_Method", bound=Callable[..., Any])

_conditions: contextvars.ContextVar[tuple[Any, list[tf.Tensor]] | None] = contextvars.ContextVar(
    "conditions", default=None
)


def assertion(condition: tf.Tensor, data: Sequence[Any]) -> list[tf.Operation]:
    """Make an operation in the current graph that fails if a condition is false.

    In a graph that `traced` makes, the function makes no operation, because TensorFlow would log a
    failed operation as a warning. Instead, the condition becomes an additional output of the graph.
    If this output is false, `traced` runs the method again without a graph, which raises the error.

    Args:
        condition: Scalar bool.
        data: The error message and the numbers that TensorFlow prints if the condition is false.

    Returns:
        The operation in a list, for `tf.control_dependencies`. In a graph that `traced` makes, the
        list is empty.
    """
    collected = _conditions.get()
    if collected is not None and collected[0] is tf.compat.v1.get_default_graph():
        collected[1].append(condition)
        return []
    if tf.executing_eagerly():
        return [tf.debugging.Assert(condition, list(data))]
    # In a graph, `tf.debugging.Assert` would make two more graphs, for the cases True and False.
    return [tf.raw_ops.Assert(condition=condition, data=list(data))]


class Graphs:
    """The TensorFlow graphs through which one model runs its methods in eager mode.

    When TensorFlow traces a method, the graph stores the current attributes of the model, such as
    the layers and the prior. Therefore the model deletes all its graphs when an attribute changes.
    """

    def __init__(self) -> None:
        self._graphs: dict[Any, Callable[..., Any]] = {}

    def call(
        self, method: Callable[..., Any], arguments: dict[str, Any], batched: tuple[str, ...]
    ) -> Any:
        """Call a method through its graph, and trace the graph if it does not exist yet.

        Args:
            method: A method, bound to its object.
            arguments: All arguments by name.
            batched: Names of the arguments whose first axis is the batch.

        Raises:
            TypeError: If an argument outside `batched` has another type than a tensor, a number or
                a string, and is not None.
            ValueError: If the batch is empty, or if the arguments in `batched` have different
                numbers of examples. Also if a condition of `assertion` is false.
        """
        tensors = {}
        others = {}
        for name, value in arguments.items():
            if value is not None and (name in batched or tf.is_tensor(value)):
                tensors[name] = tf.convert_to_tensor(value)
            elif value is None or isinstance(value, (numbers.Number, str)):
                others[name] = value
            else:
                raise TypeError(f"Expected `{name}` as a tensor, a number or a string.")
        examples = {tensor.shape[0] for name, tensor in tensors.items() if name in batched}
        if len(examples) != 1 or examples == {0}:
            raise ValueError("Expected the same number of examples, at least 1, in all arguments.")
        shapes = tuple(
            (name, tensor.dtype, tensor.shape[1 if name in batched else 0 :])
            for name, tensor in tensors.items()
        )
        # True and 1.0 equal 1, but are not valid numbers of samples. Therefore types are compared.
        types_and_values = tuple((type(value), value) for value in others.values())
        key = (method.__qualname__, shapes, types_and_values)
        if key not in self._graphs:
            specs = {
                name: tf.TensorSpec((None, *shape) if name in batched else shape, dtype)
                for name, dtype, shape in shapes
            }

            def function(*values: tf.Tensor) -> tuple[Any, tf.Tensor]:
                conditions: list[tf.Tensor] = [tf.constant(True)]
                token = _conditions.set((tf.compat.v1.get_default_graph(), conditions))
                try:
                    result = method(**dict(zip(tensors, values, strict=True)), **others)
                finally:
                    _conditions.reset(token)
                return result, tf.reduce_all(tf.stack(conditions))

            self._graphs[key] = tf.function(function).get_concrete_function(*specs.values())
        result, valid = self._graphs[key](*tensors.values())
        if not valid:
            raise ValueError("Expected valid values in all arguments.")
        return result


def traced(*batched: str) -> Callable[[_Method], _Method]:
    """Return a decorator that makes methods of a model run through a graph in eager mode.

    When the user calls a decorated method in eager mode, a TensorFlow graph computes the result.
    TensorFlow traces the method once per dtype and shape of its tensors, and once per value of its
    other arguments, such as `num_samples`. The number of examples is not part of the shape.
    Therefore a batch of another size needs no new trace. The attribute `method_graphs` of the model
    contains the graphs of all methods.

    The method runs without a graph in these cases:

    * The caller is itself part of a graph, or runs in a replica of a `tf.distribute.Strategy`.
    * The user asked for eager execution, with `run_eagerly=True` in `compile`, or with
      `tf.config.run_functions_eagerly(True)`.
    * The batch is empty, or the arguments in `batched` have different numbers of examples.
    * An argument outside `batched` has another type than a tensor, a number or a string, and is not
      None.
    * The graph raises an error. The method then runs again without a graph. If an argument is
      invalid, this second run raises an error that describes the argument. If the graph failed
      because a layer of the user works only in eager mode, the second run returns the result.

    Args:
        *batched: Names of the arguments whose first axis is the batch, such as `"x"`.
    """

    def decorate(method: _Method) -> _Method:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not _runs_through_graphs(self):
                return method(self, *args, **kwargs)
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = {name: bound.arguments[name] for name in list(signature.parameters)[1:]}
            try:
                return self.method_graphs.call(method.__get__(self), arguments, batched)
            except Exception:  # the call without a graph returns the result or the readable error
                return method(self, *args, **kwargs)

        return call  # type: ignore[return-value]  # the signature is that of `method`

    return decorate


def _runs_through_graphs(model: Any) -> bool:
    """Return whether a method of `model` with the decorator `traced` must run through a graph.

    The result is False in three cases: inside a graph, inside a replica of a
    `tf.distribute.Strategy`, and if the user asked for eager execution, with `run_eagerly=True` in
    `compile`, or with `tf.config.run_functions_eagerly(True)`. Otherwise the result is True.
    """
    in_replica = tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()
    eager = model.run_eagerly or tf.config.functions_run_eagerly()
    return tf.executing_eagerly() and not in_replica and not eager
