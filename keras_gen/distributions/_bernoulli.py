"""Compute the log-probability of independent Bernoulli elements faster than `tfd.Bernoulli`."""

from __future__ import annotations

import tensorflow as tf


@tf.custom_gradient
def bernoulli_log_prob(x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the log-probability of independent Bernoulli elements, summed over the last axis.

    For one element with the value x and the logit l, the log-probability in nats is
    (x − ½) l − ½ |l| + log σ(|l|), where σ is the sigmoid. To save time, the function multiplies up
    to 100 values σ(|l|), and takes one logarithm of their product. The product does not underflow
    in float32, because each value is at least ½. The gradient with respect to x is l. The gradient
    with respect to l is x − σ(l).

    Args:
        x: Data in [0, 1], float32 `[..., size]`.
        logits: Logits, float32 `[..., size]`. `x` and `logits` must broadcast to a common shape.

    Returns:
        Log-probabilities, float32. Their shape is the common shape of `x` and `logits` without the
        last axis.
    """
    one_example = x.shape.num_elements() == x.shape[-1]
    if one_example and logits.shape.rank > 1:
        linear = tf.linalg.matvec(logits, tf.reshape(x, [-1]) - 0.5)
    else:
        linear = tf.reduce_sum((x - 0.5) * logits, axis=-1)
    magnitude = tf.abs(logits)
    size = logits.shape[-1]
    group = max(divisor for divisor in range(1, 101) if size % divisor == 0)
    groups_shape = tf.concat([tf.shape(logits)[:-1], [size // group, group]], axis=0)
    products = tf.reduce_prod(tf.reshape(tf.sigmoid(magnitude), groups_shape), axis=-1)
    log_sigmoids = tf.reduce_sum(tf.math.log(products), axis=-1)
    value = linear - 0.5 * tf.reduce_sum(magnitude, axis=-1) + log_sigmoids

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        upstream = upstream[..., None]
        to_x = _sum_to_shape_of(x, upstream * logits)
        to_logits = _sum_to_shape_of(logits, upstream * (x - tf.sigmoid(logits)))
        return to_x, to_logits

    return value, gradients


def _sum_to_shape_of(values: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Sum `gradient` over the axes along which `values` was broadcast.

    The result has the shape of `values`.
    """
    if values.shape.is_fully_defined() and values.shape == gradient.shape:
        return gradient
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(values), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(values))
