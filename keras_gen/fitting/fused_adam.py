"""Keras's Adam with one operation of TensorFlow a variable in the place of ten."""

import keras
import tensorflow as tf


def fuse(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Let an optimizer, if it is Keras's own Adam, update each variable of a single device by TensorFlow's fused operation.

    The maths, the configuration and the saved state are the same; the numbers agree to the rounding of
    1 − β₂ᵗ, 1e-5 of a step.

    Args:
        optimizer: Any Keras optimizer; others are left as they are.

    Returns:
        The optimizer.
    """
    if type(optimizer) is not keras.optimizers.Adam or optimizer.amsgrad:
        return optimizer

    def update_step(gradient, variable, learning_rate):
        if isinstance(gradient, tf.IndexedSlices):  # of an embedding
            return type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
        index, dtype = optimizer._get_variable_index(variable), variable.dtype
        beta_1, beta_2 = tf.constant(optimizer.beta_1, dtype), tf.constant(optimizer.beta_2, dtype)
        step = tf.cast(optimizer.iterations + 1, dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
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
