"""The optimizer of a GAN. It contains one optimizer for each of the two networks of the GAN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._typing import TensorLike

_NETWORKS = ("generator", "discriminator")


class GANOptimizer(keras.optimizers.MultiOptimizer):
    """A Keras optimizer that contains the optimizers of the generator and the discriminator.

    Keras and its callbacks expect one optimizer per model. In the base class
    `keras.optimizers.MultiOptimizer`, each call of `apply` updates all variables. In this class,
    each call of `apply` updates only one of the two networks, and does not change the step counter
    `iterations`. The GAN increases `iterations` once per training step.

    Args:
        generator_optimizer: Keras optimizer of the generator.
        discriminator_optimizer: Keras optimizer of the discriminator.
        discriminator: The network that `discriminator_optimizer` updates.
    """

    def __init__(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        discriminator_optimizer: keras.optimizers.Optimizer,
        discriminator: keras.Model,
    ) -> None:
        of_discriminator = {id(variable) for variable in discriminator.variables}

        def owner(variable: keras.Variable) -> keras.optimizers.Optimizer:
            if id(variable) in of_discriminator:
                return discriminator_optimizer
            return generator_optimizer

        super().__init__(owner)
        self.owner = owner
        # The base class would only list the optimizers of networks that are not frozen.
        self.optimizers.extend([generator_optimizer, discriminator_optimizer])

    def apply(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable]
    ) -> None:
        """Update one of the two networks with the optimizer of that network.

        Args:
            grads: One gradient per variable.
            trainable_variables: Variables that belong to one optimizer. These are variables of the
                discriminator, or variables of the generator and of the prior.
        """
        self.owner(trainable_variables[0]).apply(grads, trainable_variables)

    @property
    def learning_rate(self) -> SharedLearningRate | tf.Tensor:
        """Learning rate of the generator's optimizer. A new rate is assigned to both optimizers.

        To set only one learning rate, use `optimizers[0].learning_rate` for the generator, or
        `optimizers[1].learning_rate` for the discriminator. The Keras callbacks
        `LearningRateScheduler` and `ReduceLROnPlateau` change the two learning rates separately.
        They compute the new learning rate of the generator from the old learning rate of the
        generator, and likewise for the discriminator.

        If the learning rate of the generator is a schedule, the property is a tensor with the
        current value of the schedule. If the learning rate of one of the two optimizers is a
        schedule, the assignment of a number to this property raises a `ValueError`.
        """
        rate = self.optimizers[0].learning_rate
        return SharedLearningRate(self) if isinstance(rate, keras.Variable) else rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        if not callable(learning_rate):
            self.check_numbers()
            _check_learning_rate(learning_rate)
        for optimizer in self.optimizers:
            optimizer.learning_rate = learning_rate

    def check_numbers(self) -> None:
        """Check that the learning rates of both optimizers are numbers, not schedules.

        One optimizer updates the generator, and the other optimizer updates the discriminator.

        Raises:
            ValueError: If a learning rate is a schedule.
        """
        for network, optimizer in zip(_NETWORKS, self.optimizers, strict=True):
            if not isinstance(optimizer.learning_rate, keras.Variable):
                raise ValueError(
                    f"Expected an optimizer of the {network} with a number as learning rate. "
                    f"Received: {optimizer.name}, whose learning rate is a schedule. Compile the "
                    "model with a number, such as keras.optimizers.Adam(1e-4)."
                )

    def get_config(self) -> dict[str, Any]:
        """Return the serialized optimizers. The keys are the argument names of `GAN.compile`."""
        generator_optimizer, discriminator_optimizer = self.optimizers
        return {
            "generator_optimizer": keras.saving.serialize_keras_object(generator_optimizer),
            "discriminator_optimizer": keras.saving.serialize_keras_object(discriminator_optimizer),
        }


class ScaledGANOptimizer(keras.optimizers.LossScaleOptimizer):
    """A Keras loss scale optimizer that contains a `GANOptimizer`, for mixed precision.

    As in a `GANOptimizer`, the attribute `optimizers` contains the optimizers of the generator and
    the discriminator. Callbacks of Keras read this attribute.
    """

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers of the generator and the discriminator."""
        return self.inner_optimizer.optimizers


class SharedLearningRate(np.lib.mixins.NDArrayOperatorsMixin):
    """The learning rate of a `GANOptimizer`, which contains two optimizers.

    For other optimizers, `optimizer.learning_rate` is a Keras variable. For a `GANOptimizer`, it is
    this object, so that callbacks can use it like the variable. The value of the object is the
    learning rate of the generator. Its methods `assign`, `assign_add` and `assign_sub` change the
    learning rates of both optimizers.

    Args:
        optimizer: The `GANOptimizer`.
    """

    def __init__(self, optimizer: GANOptimizer) -> None:
        self._variables = [each.learning_rate for each in optimizer.optimizers]
        self._optimizer = optimizer

    def assign(self, value: TensorLike) -> SharedLearningRate:
        """Set both learning rates."""
        self._optimizer.learning_rate = value
        return self

    def assign_add(self, value: TensorLike) -> SharedLearningRate:
        """Add a number to each of the two learning rates."""
        self._optimizer.check_numbers()
        _check_number("value", value)
        value = tf.cast(value, tf.float32)  # as the learning rates, so that no rounding remains
        rates = [optimizer.learning_rate + value for optimizer in self._optimizer.optimizers]
        for rate in rates:
            _check_learning_rate(rate)
        for optimizer, rate in zip(self._optimizer.optimizers, rates, strict=True):
            optimizer.learning_rate = rate
        return self

    def assign_sub(self, value: TensorLike) -> SharedLearningRate:
        """Subtract a number from each of the two learning rates."""
        _check_number("value", value)
        return self.assign_add(-value)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the generator's learning rate, such as `dtype`.

        This object replaces a Keras variable, but does not define all attributes of a variable.
        Python calls this method for each attribute that the object does not define. If the name of
        the attribute begins with an underscore, the method raises an `AttributeError`.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._variables[0], name)

    def __float__(self) -> float:
        """Return the learning rate of the generator."""
        return float(self._variables[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the learning rate of the generator as an array."""
        return np.asarray(self._variables[0], dtype)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Apply a NumPy function to the learning rate of the generator.

        For instance, NumPy calls this method to compute `optimizer.learning_rate * 0.5`.
        """
        inputs = tuple(np.asarray(each) if each is self else each for each in inputs)
        return getattr(function, method)(*inputs, **kwargs)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        """Return the learning rate of the generator as a tensor."""
        return tf.convert_to_tensor(self._variables[0], dtype, name=name)

    def __repr__(self) -> str:
        """Return the learning rate of the generator as text."""
        return repr(self._variables[0])


def _check_learning_rate(value: Any) -> None:
    """Raise a `ValueError` unless a learning rate is one finite number of at least 0."""
    _check_number("learning_rate", value, at_least=0, kind=" of at least 0, or a schedule of Keras")


def _check_number(argument: str, value: Any, at_least: float = -math.inf, kind: str = "") -> None:
    """Raise a `ValueError` unless a value is one finite number.

    A symbolic tensor of a TensorFlow graph has no value yet and is not checked.

    Args:
        argument: Name of the value in the error message.
        value: A number, an array, a tensor or a variable.
        at_least: Smallest allowed number. Default: any number is allowed.
        kind: Text that the error message has after "a finite number", such as " of at least 0".
    """
    if tf.is_tensor(value) and not hasattr(value, "numpy"):
        return
    try:
        number = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        number = np.asarray(np.nan)
    valid = number.shape == () and np.isfinite(number) and number >= at_least
    if not valid or isinstance(value, (str, bool)):
        raise ValueError(
            f"`{argument}` must be a finite number{kind}. Received: {argument}={value!r}. To set "
            "the learning rate of one network, use `optimizer.optimizers[0]` for the generator, or "
            "`optimizer.optimizers[1]` for the discriminator."
        )


def network_optimizer(
    network: str, optimizer: keras.optimizers.Optimizer | str | dict[str, Any]
) -> keras.optimizers.Optimizer:
    """Return the Keras optimizer that an argument of `GAN.compile` describes.

    Args:
        network: Name of the network that the optimizer updates, `"generator"` or `"discriminator"`.
        optimizer: A Keras optimizer, its name, or its serialized form.

    Raises:
        ValueError: If `optimizer` does not describe a Keras optimizer, or if it describes a
            `MultiOptimizer`. Also if it describes a `LossScaleOptimizer`, because the generator and
            the discriminator must share one loss scale.
    """
    argument = f"{network}_optimizer"
    found = keras_optimizer(argument, optimizer)
    if isinstance(found, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"`{argument}` must not be a LossScaleOptimizer, because the generator and the "
            "discriminator share one loss scale. Pass its `inner_optimizer`. Under the policy "
            "mixed_float16, `compile` adds the loss scale."
        )
    if isinstance(found, keras.optimizers.MultiOptimizer):
        raise ValueError(
            f"`{argument}` must be the optimizer of one network. Received: {found.name}, which "
            "contains several optimizers. Pass one optimizer of each network."
        )
    return found


def keras_optimizer(
    argument: str, optimizer: keras.optimizers.Optimizer | str | dict[str, Any]
) -> keras.optimizers.Optimizer:
    """Return the Keras optimizer that an argument of `compile` describes.

    Args:
        argument: Name of the argument, for the error message.
        optimizer: A Keras optimizer, its name, or its serialized form.

    Raises:
        ValueError: If `optimizer` does not describe a Keras optimizer.
    """
    reason: Exception | None = None
    try:
        found = keras.optimizers.get(optimizer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = error
    if reason or not isinstance(found, keras.optimizers.Optimizer):
        raise ValueError(
            f"`{argument}` must be a Keras optimizer, its name such as 'adam', or its serialized "
            f"form. Received: {argument}={optimizer!r}"
        ) from reason
    return found
