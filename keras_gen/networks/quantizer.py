"""A layer that replaces each latent vector by the nearest vector of a codebook."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._serialization import SerializableLayer
from keras_gen._typing import TensorLike

_FEWEST = 1e-6  # a moving average of numbers of vectors below this number counts as 0


class Quantized(NamedTuple):
    """The result of `VectorQuantizer.nearest`.

    In the descriptions of the fields, z is a latent vector, and e is the nearest codebook vector.
    """

    vectors: tf.Tensor
    """e, `[..., d]`. In backpropagation, z receives the gradient with respect to e unchanged
    (straight-through estimator)."""
    codes: tf.Tensor
    """Index of e in the codebook, int64 `[..., num_codebooks]`."""
    codebook_loss: tf.Tensor
    """‖sg(z) − e‖², one value per latent vector, `[...]`. sg stops the gradient. 0 if moving
    averages update the codebook."""
    commitment_loss: tf.Tensor
    """β‖z − sg(e)‖², one value per latent vector, `[...]`. β is the argument `commitment` of the
    `VectorQuantizer`."""


@keras.saving.register_keras_serializable("keras_gen")
class VectorQuantizer(SerializableLayer):
    """Replace each latent vector by the nearest vector of a codebook.

    The codebook contains `num_codes` trainable vectors. The code of a latent vector z is the index
    of the nearest codebook vector e, by Euclidean distance. If two codebook vectors are equally
    near, the code is the smaller index. The layer returns e. In backpropagation, the layer passes
    the gradient of the loss with respect to e unchanged to z, as if e were equal to z
    (straight-through estimator). The source is van den Oord et al. 2017, arXiv:1711.00937.

    With several codebooks, each latent vector is split into `num_codebooks` parts of equal size.
    Each part has a codebook of its own, and a latent vector has one code per part.

    A code that is rarely used restarts (Dhariwal et al. 2020, arXiv:2005.00341, section 3.1): its
    vector is replaced by a latent vector that is sampled from the current batch. A code is rarely
    used if the moving average of its number of latent vectors per step is below `restart_below`
    times the mean over all codes. Restarts also initialize the codebook in the first step.

    Args:
        num_codes: K, the number of vectors in each codebook, at least 2.
        num_codebooks: Number of codebooks. The size d of a latent vector must be divisible by it.
        codebook: How the codebook is trained.

            * `"moving_average"`: e is a moving average of the latent vectors with the code of e.
              Each training step computes N ← γN + (1 − γ)n, m ← γm + (1 − γ)Σz and e = m/N. Here n
              is the number of these latent vectors in the step, and Σz is their sum. γ is the
              argument `decay`.
            * `"gradient"`: the optimizer minimizes ‖sg(z) − e‖², where sg stops the gradient.
        commitment: β, the weight of the commitment loss ‖z − sg(e)‖². This loss keeps z near e.
        decay: γ, the factor of the moving averages, in [0, 1).
        restart_below: A code restarts if its moving average is below this fraction of the mean.
            0 for no restarts.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is invalid.

    Example: the codebook vectors are 0 and 1, and 0.4 is nearer to 0.

    >>> quantizer = VectorQuantizer(num_codes=2)
    >>> quantizer.build((None, 1))
    >>> _ = quantizer.vectors.assign([[[0.0], [1.0]]])
    >>> quantizer.encode([[0.4], [0.9]]).numpy().tolist()
    [[0], [1]]
    >>> quantizer(tf.constant([[0.4], [0.9]])).numpy().tolist()
    [[0.0], [1.0]]
    """

    def __init__(
        self,
        num_codes: int,
        num_codebooks: int = 1,
        codebook: Literal["moving_average", "gradient"] = "moving_average",
        commitment: float = 0.25,
        decay: float = 0.99,
        restart_below: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **{"dtype": "float32", **kwargs})
        self.num_codes = positive_int(self, "num_codes", num_codes, at_least=2)
        self.num_codebooks = positive_int(self, "num_codebooks", num_codebooks)
        if codebook not in ("moving_average", "gradient"):
            raise ValueError(
                "`codebook` of VectorQuantizer must be 'moving_average' or 'gradient'. "
                f"Received: codebook={codebook!r}"
            )
        self.codebook = codebook
        self.commitment = _in_range("commitment", commitment, math.inf)
        self.decay = _in_range("decay", decay, 1.0)
        self.restart_below = _in_range("restart_below", restart_below, 1.0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the variables: the codebooks, and the moving averages that `update` computes.

        Args:
            input_shape: Shape of a batch of latents, `(None, ..., d)`.

        Raises:
            ValueError: If d is not divisible by the number of codebooks.
        """
        size = input_shape[-1]
        if size is None or size % self.num_codebooks:
            raise ValueError(
                "The size of a latent vector must be divisible by `num_codebooks`. Received: "
                f"latent vectors of size {size} for num_codebooks={self.num_codebooks}."
            )
        shape = (self.num_codebooks, self.num_codes, size // self.num_codebooks)

        def add(name: str, shape: tuple[int, ...], **arguments: Any) -> keras.Variable:
            # All replicas of a distributed training assign the same value.
            return self.add_weight(
                shape, name=name, autocast=False, aggregation="only_first_replica", **arguments
            )

        bound = 1 / self.num_codes  # as in the code of the paper's authors
        uniform = keras.initializers.RandomUniform(-bound, bound)
        by_gradient = self.codebook == "gradient"
        self.vectors = add("vectors", shape, initializer=uniform, trainable=by_gradient)
        """The codebooks, `[num_codebooks, num_codes, d / num_codebooks]`."""
        self.counts = add("counts", shape[:2], initializer="zeros", trainable=False)
        """N, the moving average of the number of latent vectors per step and code."""
        self.sums: keras.Variable | None = None
        """m, the moving average of the sum of the latent vectors per step and code. None if the
        codebook is trained by gradients."""
        if not by_gradient:
            self.sums = add("sums", shape, initializer="zeros", trainable=False)

    def call(self, latents: TensorLike) -> tf.Tensor:
        """Return the nearest codebook vector of each latent vector, `[..., d]`."""
        return self.nearest(latents).vectors

    def compute_output_spec(self, latents: keras.KerasTensor) -> keras.KerasTensor:
        """Return the shape and the dtype of the output of the layer."""
        return keras.KerasTensor(latents.shape, "float32")

    def nearest(self, latents: TensorLike) -> Quantized:
        """Find the nearest codebook vector of each latent vector, and compute the losses.

        Args:
            latents: Latent vectors `[..., d]`.

        Returns:
            A `Quantized`: the codebook vectors, their codes (indices in the codebook), the codebook
            loss and the commitment loss.
        """
        latents = tf.cast(tf.convert_to_tensor(latents), tf.float32)
        codes = self.encode(latents)
        # With `tf.gather`, the gradient of the codebook would be sparse.
        one_hot = tf.one_hot(self._flat(codes), self.num_codes)
        vectors = self._joined(one_hot @ tf.convert_to_tensor(self.vectors), tf.shape(latents))
        fixed = tf.stop_gradient(vectors)
        commitment = tf.reduce_sum((latents - fixed) ** 2, axis=-1)
        if self.codebook == "gradient":
            codebook = tf.reduce_sum((tf.stop_gradient(latents) - vectors) ** 2, axis=-1)
        else:
            codebook = tf.zeros_like(commitment)
        # The difference is exactly 0, so that the value is exactly that of the codebook.
        straight_through = fixed + (latents - tf.stop_gradient(latents))
        return Quantized(straight_through, codes, codebook, self.commitment * commitment)

    def encode(self, latents: TensorLike) -> tf.Tensor:
        """Return the codes of latent vectors. A code is the index of the nearest codebook vector.

        Args:
            latents: Latent vectors `[..., d]`.

        Returns:
            Integers from 0 to `num_codes` − 1, int64 `[..., num_codebooks]`.
        """
        latents = tf.cast(tf.convert_to_tensor(latents), tf.float32)
        vectors = tf.convert_to_tensor(self.vectors)
        # ‖z − e‖² without ‖z‖², which is the same for all e.
        squared = tf.reduce_sum(vectors**2, axis=-1)[:, None]
        distances = squared - 2 * tf.matmul(self._parts(latents), vectors, transpose_b=True)
        codes = tf.transpose(tf.argmin(distances, axis=-1, output_type=tf.int64))
        shape = tf.concat([tf.shape(latents)[:-1], [self.num_codebooks]], axis=0)
        static_shape = (*latents.shape[:-1], self.num_codebooks)
        return tf.ensure_shape(tf.reshape(codes, shape), static_shape)

    def decode(self, codes: TensorLike) -> tf.Tensor:
        """Look up the codebook vector of each code, and return latent vectors.

        With several codebooks, a latent vector is the concatenation of one vector per codebook.

        Args:
            codes: Integers from 0 to `num_codes` − 1, `[..., num_codebooks]`.

        Returns:
            Latent vectors, float32 `[..., d]`.
        """
        codes = tf.convert_to_tensor(codes)
        vectors = tf.convert_to_tensor(self.vectors)
        size = vectors.shape[0] * vectors.shape[2]
        found = tf.gather(vectors, self._flat(codes), batch_dims=1)
        latents = self._joined(found, tf.concat([tf.shape(codes)[:-1], [size]], axis=0))
        return tf.ensure_shape(latents, (*codes.shape[:-1], size))

    def code_counts(self, codes: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
        """Count how often each code occurs, float32 `[num_codebooks, num_codes]`.

        A code is the index of a vector in a codebook.

        Args:
            codes: Codes `[batch, ..., num_codebooks]`.
            weights: Weight of each example, `[batch]`. Default: 1.
        """
        one_hot, _ = self._weighted_one_hot(codes, weights)
        return tf.reduce_sum(one_hot, axis=1)

    def update(
        self,
        latents: tf.Tensor,
        codes: tf.Tensor,
        weights: tf.Tensor | None,
        seed: tf.Tensor,
        allowed: tf.Tensor,
    ) -> None:
        """Update the moving averages of each code, and then the codebook.

        The layer averages two quantities over the training steps: the number of latent vectors with
        a code, and the sum of these vectors. The codebook vector of the code becomes the average
        sum, divided by the average number. If the average number is at most 10⁻⁶, the codebook
        vector does not change. If the codebook is trained by gradients, the method computes only
        the average number. If, in addition, `restart_below` is 0, the method does nothing.

        A code that is rarely used restarts: its codebook vector is replaced by a random latent
        vector of the batch. In distributed training, the method uses the latents of all replicas.

        Args:
            latents: Latent vectors z `[batch, ..., d]`.
            codes: Codes of `latents`, `[batch, ..., num_codebooks]`.
            weights: Weight of each example, `[batch]`. If None, every weight is 1.
            seed: Seed of the restarts, for the stateless random functions of TensorFlow.
            allowed: Scalar bool. If it is False, no variable changes.
        """
        if self.sums is None and not self.restart_below:
            return
        one_hot, flat_weights = self._weighted_one_hot(codes, weights)
        parts = self._parts(latents)
        counts = tf.reduce_sum(one_hot, axis=1)
        sums = tf.matmul(one_hot, parts, transpose_a=True)
        sampled, found = self._sampled(parts, flat_weights, seed)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            totals = [counts, sums, sampled, found]
            counts, sums, sampled, found = replica.all_reduce(tf.distribute.ReduceOp.SUM, totals)

        vectors = tf.convert_to_tensor(self.vectors)
        counts = self.decay * self.counts + (1 - self.decay) * counts
        if self.sums is not None:
            sums = self.decay * self.sums + (1 - self.decay) * sums
            used = counts[..., None] > _FEWEST
            vectors = tf.where(used, sums / tf.maximum(counts[..., None], _FEWEST), vectors)
        mean = tf.reduce_mean(counts, axis=1, keepdims=True)
        restarts = (counts < self.restart_below * mean) & (found > 0)
        counts = tf.where(restarts, mean, counts)
        vectors = tf.where(restarts[..., None], sampled, vectors)
        self.vectors.assign(tf.where(allowed, vectors, self.vectors))
        self.counts.assign(tf.where(allowed, counts, self.counts))
        if self.sums is not None:
            sums = tf.where(restarts[..., None], mean[..., None] * sampled, sums)
            self.sums.assign(tf.where(allowed, sums, self.sums))

    def _sampled(
        self, parts: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """For each code, sample a latent vector of the batch, with probabilities ∝ `weights`.

        The method `update` replaces the codebook vectors of rarely used codes by these samples.

        In a distributed training, each replica has a part of the batch. Each code gets its latent
        vector from one of the replicas. The other replicas return zeros for this code. Therefore
        the sum over the replicas is one latent vector per code.

        Args:
            parts: The latent vectors of the batch, split into one part per codebook,
                `[num_codebooks, n, d / num_codebooks]`.
            weights: Weight of each latent vector, `[n]`.
            seed: Seed for the stateless random functions of TensorFlow.

        Returns:
            `(sampled, found)`. `sampled` has the shape of the codebooks. `found` is 1 for each code
            that gets its latent vector from this replica, and 0 for each other code,
            `[num_codebooks, num_codes]`.
        """
        shape = (self.num_codebooks, self.num_codes)
        cumulative = tf.cumsum(weights)
        uniform = tf.random.stateless_uniform((math.prod(shape),), seed)
        total = tf.reduce_sum(weights)
        last = tf.maximum(tf.shape(weights)[0] - 1, 0)
        index = tf.searchsorted(cumulative, uniform * total, side="right")
        index = tf.reshape(tf.minimum(index, last), shape)
        # The added zeros are for the empty batch of a replica.
        sampled = tf.gather(tf.pad(parts, [[0, 0], [0, 1], [0, 0]]), index, batch_dims=1)
        replica = tf.distribute.get_replica_context()
        owner = tf.range(self.num_codes) % replica.num_replicas_in_sync
        own = (owner == replica.replica_id_in_sync_group) & (total > 0)
        found = tf.broadcast_to(tf.cast(own, tf.float32), shape)
        return sampled * found[..., None], found

    def _weighted_one_hot(
        self, codes: tf.Tensor, weights: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the one-hot vector of each code, times the weight of its example.

        Returns:
            `(one_hot, weights)`. `one_hot` has the shape `[num_codebooks, n, num_codes]` for n
            latent vectors. `weights` contains the weight of each latent vector, `[n]`.
        """
        positions = math.prod(codes.shape[1:-1])
        if weights is None:
            weights = tf.ones(tf.shape(codes)[0])
        flat_weights = tf.repeat(weights, positions)
        one_hot = tf.one_hot(self._flat(codes), self.num_codes)
        return one_hot * flat_weights[:, None], flat_weights

    def _parts(self, latents: tf.Tensor) -> tf.Tensor:
        """Split latent vectors `[..., d]` into parts, `[num_codebooks, n, d / num_codebooks]`."""
        size = self.vectors.shape[2]
        return tf.transpose(tf.reshape(latents, (-1, self.num_codebooks, size)), (1, 0, 2))

    def _flat(self, codes: tf.Tensor) -> tf.Tensor:
        """Reshape codes `[..., num_codebooks]` to `[num_codebooks, n]`."""
        return tf.transpose(tf.reshape(codes, (-1, self.num_codebooks)))

    def _joined(self, parts: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """Join the parts of n latent vectors, and return the vectors in the given shape.

        A latent vector has one part per codebook.

        Args:
            parts: Parts of latent vectors of size d, `[num_codebooks, n, d / num_codebooks]`.
            shape: Shape of the result. The last number is d.
        """
        return tf.reshape(tf.transpose(parts, (1, 0, 2)), shape)


def _in_range(argument: str, value: float, limit: float) -> float:
    """Return `value` as a float if it is in [0, limit), otherwise raise a `ValueError`."""
    if not is_real(value) or not 0 <= value < limit:
        expected = "a finite number of at least 0" if limit == math.inf else "a number in [0, 1)"
        raise ValueError(
            f"`{argument}` of VectorQuantizer must be {expected}. Received: {argument}={value!r}"
        )
    return float(value)
