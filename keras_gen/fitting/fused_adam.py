"""Keras's Adam, which updates a variable with one fused TensorFlow operation instead of ten."""

import keras
import tensorflow as tf

from keras_gen._compat import adam_slots


def fuse(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Make Keras's Adam update each variable with one fused TensorFlow operation.

    Use this function only for training on a single device. The update rule of Adam, its saved
    arguments and its saved state stay the same. The updates differ from those of Keras by a
    relative error of about 1e-5, because 1 − β₂ᵗ is rounded differently.

    Args:
        optimizer: Any Keras optimizer. Only `keras.optimizers.Adam` without `amsgrad` is changed.

    Returns:
        The same optimizer.
    """
    if type(optimizer) is not keras.optimizers.Adam or optimizer.amsgrad:
        return optimizer

    def update_step(
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> tf.Operation | None:
        slots = adam_slots(optimizer, variable)
        sparse = isinstance(gradient, tf.IndexedSlices)  # such as the gradient of an embedding
        if slots is None or sparse:
            return type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
        first_moment, second_moment = slots
        dtype = variable.dtype
        beta_1 = tf.constant(optimizer.beta_1, dtype)
        beta_2 = tf.constant(optimizer.beta_2, dtype)
        step = tf.cast(optimizer.iterations + 1, dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first_moment.value.handle,
            v=second_moment.value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(optimizer.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )

    optimizer.update_step = update_step
    return optimizer
