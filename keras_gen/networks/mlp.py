"""Build multilayer perceptrons."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.networks._common import Activation, checked_shape, concatenate_labels


def mlp(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    hidden: Sequence[int] = (256,),
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
    num_classes: int | None = None,
    features: keras.layers.Layer | None = None,
) -> keras.Model:
    """Build a multilayer perceptron with the given input shape, output shape and hidden layers.

    With mixed precision, the last layer still computes in float32, so that losses stay accurate.

    Args:
        input_shape: Input shape of one example, for instance `(28, 28, 1)`. The network flattens
            the input.
        output_shape: Output shape of one example, for instance `(32,)`.
        hidden: Number of units of each hidden layer, from the input to the output. Default:
            `(256,)`.
        activation: Activation of the hidden layers. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel, for instance
            `keras.regularizers.L2(1e-4)`. Default: none.
        output_activation: Activation of the output, for instance `"sigmoid"`. Default: none.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.
        features: Keras layer that prepares the input for the first hidden layer, such as
            `ColumnFeatures` for rows of a table. Default: none.

    Returns:
        A built `keras.Model`.

    Raises:
        ValueError: If a shape or `num_classes` is invalid.

    Example:
        >>> mlp((28, 28, 1), (32,), hidden=(256,)).output_shape
        (None, 32)
    """
    inputs = keras.Input(checked_shape("input_shape", input_shape))
    output_shape = checked_shape("output_shape", output_shape)
    x = inputs if features is None else features(inputs)
    inputs, x = concatenate_labels(inputs, layers.Flatten()(x), num_classes)
    for units in hidden:
        x = layers.Dense(units, activation=activation, kernel_regularizer=kernel_regularizer)(x)
    last = layers.Dense(
        math.prod(output_shape),
        activation=output_activation,
        kernel_regularizer=kernel_regularizer,
        dtype="float32",
    )
    return keras.Model(inputs, layers.Reshape(output_shape, dtype="float32")(last(x)))
