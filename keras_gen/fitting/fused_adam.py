"""Change how Keras's Adam computes the updates of variables.

`fuse` makes Adam faster: one TensorFlow operation updates a variable and its moments.
`compute_in_float32` lets Adam compute in float32 if the variables are bfloat16.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_gen._compat import adam_slots


def compute_in_float32(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Let Keras's Adam and AdamW compute in float32 if they update variables in bfloat16.

    Keras computes the step size in the dtype of the variable. In bfloat16, β₂ = 0.999 is rounded to
    1, and the step size is then 0. Without this function, Adam would change no weight, and raise no
    error. The function changes `optimizer` in place. The moments that the optimizer stores stay in
    bfloat16. The function does nothing if no variable is bfloat16, if β₂ is not rounded to 1, or if
    the optimizer is Adamax or Lion.

    Args:
        optimizer: Any Keras optimizer.
        variables: The variables that the optimizer updates.

    Raises:
        ValueError: If the step size would be zero or NaN in bfloat16, and the optimizer is neither
            Adam nor AdamW, or has `amsgrad=True`.
    """
    beta_2 = getattr(optimizer, "beta_2", 0.0)
    corrects_bias = not isinstance(optimizer, (keras.optimizers.Adamax, keras.optimizers.Lion))
    in_bfloat16 = any(variable.dtype == "bfloat16" for variable in variables)
    if not in_bfloat16 or not corrects_bias or float(tf.cast(beta_2, tf.bfloat16)) != 1:
        return
    adam = type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW)
    if not adam or optimizer.amsgrad:
        raise ValueError(
            f"Expected an optimizer that works in bfloat16. Received: {optimizer.name} with "
            f"beta_2={beta_2}. bfloat16 rounds this number to 1, so that the step size would be "
            "zero or NaN. Use the policy mixed_bfloat16, or keras.optimizers.Adam() without "
            "`amsgrad`."
        )

    keras_update_step = type(optimizer).update_step

    def update_step(
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        slots = adam_slots(optimizer, variable)
        if slots is None or variable.dtype != "bfloat16":
            keras_update_step(optimizer, gradient, variable, learning_rate)
            return
        gradient = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
        step = tf.cast(optimizer.iterations + 1, tf.float32)
        beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
        step_size = tf.cast(learning_rate, tf.float32) * tf.sqrt(1 - tf.pow(beta_2, step))
        step_size /= 1 - tf.pow(beta_1, step)
        first, second = (tf.cast(slot, tf.float32) for slot in slots)
        first += (gradient - first) * (1 - beta_1)
        second += (gradient**2 - second) * (1 - beta_2)
        change = step_size * first / (tf.sqrt(second) + optimizer.epsilon)
        optimizer.assign(slots[0], tf.cast(first, tf.bfloat16))
        optimizer.assign(slots[1], tf.cast(second, tf.bfloat16))
        optimizer.assign(variable, tf.cast(tf.cast(variable, tf.float32) - change, tf.bfloat16))

    optimizer.update_step = update_step


def fuse(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Make Keras's Adam faster: let one TensorFlow operation update a variable and its moments.

    Use this function only for training on a single device. The update rule of Adam does not change,
    and a saved optimizer has the same arguments and variables as before. Because of rounding, the
    relative difference from the updates of Keras is about 1e-5.

    Args:
        optimizer: Any Keras optimizer. Only `keras.optimizers.Adam` without `amsgrad` is changed.

    Returns:
        The argument `optimizer`, which the function changes in place.
    """
    if type(optimizer) is not keras.optimizers.Adam or optimizer.amsgrad:
        return optimizer
    keras_update_step = optimizer.update_step

    def update_step(
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> tf.Operation | None:
        slots = adam_slots(optimizer, variable)
        sparse = isinstance(gradient, tf.IndexedSlices)  # such as the gradient of an embedding
        if slots is None or sparse or variable.dtype == "bfloat16":
            return keras_update_step(gradient, variable, learning_rate)
        first_moment, second_moment = slots
        dtype = variable.dtype
        beta_1 = tf.constant(optimizer.beta_1, dtype)
        beta_2 = tf.constant(optimizer.beta_2, dtype)
        # TensorFlow traces its own addition faster than that of Keras.
        step = tf.cast(tf.convert_to_tensor(optimizer.iterations), dtype) + 1
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
