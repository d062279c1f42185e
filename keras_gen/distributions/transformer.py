"""A prior over the codes of a vector-quantized autoencoder: a causal transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from keras_gen._arguments import positive_float, positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.priors import Prior

_Cache = tuple[tf.Tensor, tf.Tensor]  # keys and values, `[batch, event_size, heads, size]` each


@keras.saving.register_keras_serializable("keras_gen")
class TransformerPrior(Prior):
    """Causal transformer that models the prior p(c) = Π_i p(c_i | c_1, …, c_{i−1}) of codes.

    A code is an integer from 0 to `num_codes` − 1, the index of a vector in the codebook of a
    `VectorQuantizedAutoencoder`. The sequence c_1, c_2, … contains all codes of an example, row by
    row. The method `fit_prior` of the autoencoder fits the prior after the autoencoder is trained.
    Before `fit_prior`, the prior is uniform: each code has the probability 1 / `num_codes`.

    For each position i of the sequence, the transformer adds the embedding of the previous code
    c_{i−1} to the embedding of the position. At the first position, the embedding of a start symbol
    replaces the embedding of the previous code. The sum is the input of `depth` blocks. Each block
    has two parts: causal self-attention, and a multilayer perceptron. Each part begins with layer
    normalization, and has a residual connection. The last layer computes the logits of the code c_i
    (Vaswani et al. 2017, arXiv:1706.03762).

    Only the method `fit` changes the weights of the prior. `fit_prior` calls this method. The
    training of the autoencoder does not change the weights of the prior.

    Args:
        code_shape: Shape of the codes of one example, such as `(7, 7, 1)`. The last number is the
            number of codebooks. Codes of different codebooks have different embeddings.
        num_codes: Number of possible values of each code, at least 2.
        width: Number of features per position. Must be divisible by `num_heads`. Default: 64.
        depth: Number of blocks. Default: 3.
        num_heads: Number of attention heads. Default: 4.
        epochs: Default number of passes over the codes in `fit`. Default: 10.
        **kwargs: Arguments `name` and `dtype` of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is invalid.

    Example: in the training data, two neighboring codes always differ. The prior learns this.

    >>> prior = TransformerPrior((2, 1), num_codes=2, width=8, depth=1, num_heads=2)
    >>> round(float(prior.log_prob([[[0], [1]]])[0]), 4)  # 2 log(1/2)
    -1.3863
    >>> history = prior.fit([[[0], [1]], [[1], [0]]], epochs=300, verbose=0)
    >>> bool(prior.log_prob([[[0], [1]]])[0] > np.log(0.4))
    True
    """

    def __init__(
        self,
        code_shape: Sequence[int],
        num_codes: int,
        width: int = 64,
        depth: int = 3,
        num_heads: int = 4,
        epochs: int = 10,
        **kwargs: Any,
    ) -> None:
        code_shape = tuple(positive_int(self, "code_shape", size) for size in code_shape)
        # TensorFlow ignores the assignment of False below if the value is False already.
        super().__init__(math.prod(code_shape), **{**kwargs, "trainable": True})
        self.code_shape = code_shape
        self.num_codes = positive_int(self, "num_codes", num_codes, at_least=2)
        self.num_codebooks = code_shape[-1]
        self.width = positive_int(self, "width", width)
        self.depth = positive_int(self, "depth", depth)
        self.num_heads = positive_int(self, "num_heads", num_heads)
        self.epochs = positive_int(self, "epochs", epochs)
        if width % num_heads:
            raise ValueError(
                "`width` of TransformerPrior must be divisible by `num_heads`. "
                f"Received: width={width}, num_heads={num_heads}"
            )
        # The last embedding is that of the start of the sequence.
        self.embedding = layers.Embedding(
            self.num_codebooks * num_codes + 1, width, dtype="float32"
        )
        self.position = layers.Embedding(self.event_size, width, dtype="float32")
        self.blocks = [_Block(width, num_heads, f"block_{index}") for index in range(depth)]
        self.normalization = layers.LayerNormalization(dtype="float32")
        # With a kernel of zeros, the prior is uniform.
        self.logits = layers.Dense(num_codes, kernel_initializer="zeros", dtype="float32")
        self.fitted = self.add_weight(
            (), "zeros", name="fitted", trainable=False, autocast=False, aggregation="mean"
        )
        """1 after `fit`, 0 before."""
        self(tf.zeros((1, self.event_size), tf.int64))  # makes the weights of all layers
        self.trainable = False
        self._sample = tf.function(
            lambda seeds, temperature: self._sample_sequences(seeds, temperature),
            input_signature=[tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.float32)],
        )

    def call(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the logits of each code, given the previous codes of the sequence.

        Args:
            codes: Sequences of `event_size` codes, integers `[batch, event_size]`.

        Returns:
            Logits `[batch, event_size, num_codes]`.
        """
        index = np.arange(self.event_size)
        tokens = keras.ops.cast(codes, "int64") + self._offset(index)
        start = keras.ops.full_like(tokens[:, :1], self.num_codebooks * self.num_codes)
        previous = keras.ops.concatenate([start, tokens[:, :-1]], axis=1)
        x = self.embedding(previous) + self.position(keras.ops.convert_to_tensor(index))
        for block in self.blocks:
            x = block(x)
        return self.logits(self.normalization(x))

    def log_prob(self, codes: TensorLike) -> tf.Tensor:
        """Return log p(c) of the codes of each example, `[batch]`, in nats.

        Args:
            codes: Codes, integers `[batch, *code_shape]`.
        """
        codes = tf.reshape(codes, (-1, self.event_size))

        def of_transformer() -> tf.Tensor:
            return -_cross_entropy(codes, self(codes))

        def of_uniform() -> tf.Tensor:
            return tf.fill(tf.shape(codes)[:1], -self.event_size * math.log(self.num_codes))

        return tf.cond(self.fitted > 0, of_transformer, of_uniform)

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Raise a `ValueError`, because this prior over codes has no `tfd.Distribution`.

        Use the methods `log_prob` and `sample_rows` instead.
        """
        raise ValueError(
            "Expected a prior over latent vectors. Received: TransformerPrior, a prior over "
            "codes. Use its methods `log_prob` and `sample_rows`."
        )

    def sample_rows(
        self,
        seeds: TensorLike,
        condition: TensorLike | None = None,
        temperature: float = 1.0,
    ) -> tf.Tensor:
        """Sample the codes of one example per seed.

        The codes of an example depend only on its own seed, apart from rounding errors.

        Args:
            seeds: Seeds, int64 `[batch]`.
            condition: Ignored, because the prior does not depend on labels.
            temperature: The logits are divided by this number. A number below 1 makes probable
                codes more probable. Default: 1.

        Returns:
            Codes, int64 `[batch, *code_shape]`.

        Raises:
            ValueError: If `temperature` is not positive.
        """
        temperature = positive_float(self, "temperature", temperature)
        codes = self._sample(tf.cast(seeds, tf.int64), temperature)
        return tf.reshape(codes, (-1, *self.code_shape))

    def _sample_sequences(self, seeds: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Sample the codes of all sequences, one position after the other.

        For each position i, the method takes a uniform random number u from [0, 1). The code c_i is
        the smallest k for which p(c_i ≤ k | c_1, …, c_{i−1}) is above u.
        """

        def uniform_of(seed: tf.Tensor) -> tf.Tensor:
            return tf.random.stateless_uniform((self.event_size,), tf.bitcast(seed, tf.int32))

        row = tf.TensorSpec((self.event_size,), tf.float32)
        uniform = tf.map_fn(uniform_of, seeds, fn_output_signature=row)
        batch = tf.shape(seeds)[0]
        positions = tf.range(self.event_size)
        empty = tf.zeros((batch, self.event_size, self.num_heads, self.width // self.num_heads))
        caches = [(empty, empty) for _ in self.blocks]
        codes = tf.zeros((batch, self.event_size), tf.int64)
        start = tf.fill((batch,), tf.constant(self.num_codebooks * self.num_codes, tf.int64))

        def step(
            index: tf.Tensor, token: tf.Tensor, codes: tf.Tensor, caches: list[_Cache]
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[_Cache]]:
            x = (self.embedding(token) + self.position(index))[:, None]
            new_caches = []
            for block, cache in zip(self.blocks, caches, strict=True):
                x, cache = block.step(x, cache, index)
                new_caches.append(cache)
            logits = self.logits(self.normalization(x))[:, 0]
            cumulative = tf.cumsum(tf.nn.softmax(logits / temperature), axis=-1)
            # The sum of the probabilities can differ from 1 by rounding errors. The threshold is
            # less than this sum, also after rounding, so the code is at most `num_codes` − 1.
            threshold = uniform[:, index] * cumulative[:, -1]
            code = tf.math.count_nonzero(cumulative <= threshold[:, None], axis=-1)
            codes = tf.where(positions == index, code[:, None], codes)
            token = code + tf.cast(self._offset(index), tf.int64)
            return index + 1, token, codes, new_caches

        _, _, codes, _ = tf.while_loop(
            lambda index, *_: index < self.event_size,
            step,
            (tf.constant(0), start, codes, caches),
            maximum_iterations=self.event_size,
        )
        return codes

    def _offset(self, index: Any) -> Any:
        """Return the row at which the embeddings of a codebook begin in the embedding table.

        The embedding table contains the embeddings of one codebook after the other. The argument
        `index` is the position of a code in the sequence of all codes of an example. The position
        determines the codebook of the code.
        """
        return index % self.num_codebooks * self.num_codes

    def fit(
        self,
        codes: npt.ArrayLike,
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        seed: int = 0,
        validation_codes: npt.ArrayLike | None = None,
        verbose: Literal["auto", 0, 1, 2] = "auto",
    ) -> keras.callbacks.History:
        """Fit the prior to codes: minimize the mean of −log p(c) with Adam.

        Here c contains all codes of one example. The learning rate falls to 0 by cosine decay. A
        second call of `fit` continues from the current weights.

        Args:
            codes: Codes of n examples, integers `[n, *code_shape]`.
            epochs: Number of passes over the codes. Default: the attribute `epochs`.
            batch_size: Number of examples per step. Default: 128.
            learning_rate: Learning rate of the first step. Default: 0.002.
            seed: Seed of the order of the examples. Default: 0.
            validation_codes: Codes for which `val_loss` is computed after each epoch. Default: no
                codes.
            verbose: As in `keras.Model.fit`.

        Returns:
            The `History` of Keras. `loss` is the mean of −log p(c), in nats per example.

        Raises:
            ValueError: If an argument is invalid.
        """
        codes = self._checked("codes", codes)
        epochs = positive_int(self, "epochs", self.epochs if epochs is None else epochs)
        batch_size = positive_int(self, "batch_size", batch_size)
        learning_rate = positive_float(self, "learning_rate", learning_rate)
        steps = math.ceil(len(codes) / batch_size)

        def batches_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            rows = tf.range(len(codes))
            order = tf.random.experimental.stateless_shuffle(rows, tf.stack([seed, epoch]))
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        def pair(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = tf.gather(codes, rows)
            return chosen, chosen

        batches = tf.data.Dataset.range(epochs).flat_map(batches_of_epoch).map(pair)
        validation_data = None
        if validation_codes is not None:
            validation_codes = self._checked("validation_codes", validation_codes)
            validation_data = (validation_codes, validation_codes)
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
        inputs = keras.Input((self.event_size,), dtype="int64")
        # Another model, so that the prior keeps neither the optimizer nor the metrics.
        trainer = keras.Model(inputs, self(inputs))
        self.trainable = True
        try:
            trainer.compile(keras.optimizers.Adam(schedule), loss=_cross_entropy)
            history = trainer.fit(
                batches,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation_data,
                shuffle=False,
                verbose=verbose,
            )
        finally:
            self.trainable = False
        self.fitted.assign(1.0)
        return history

    def _checked(self, name: str, codes: npt.ArrayLike) -> np.ndarray:
        """Return codes as sequences, int64 `[n, event_size]`, or raise a `ValueError`."""
        codes = np.asarray(codes)
        form_fits = codes.shape[1:] == self.code_shape and len(codes) > 0
        if not form_fits or codes.dtype.kind not in "iu":
            shape = str(self.code_shape)[1:-1].rstrip(",")
            raise ValueError(
                f"`{name}` must be integers of shape (n, {shape}) with n of at least 1. "
                f"Received: shape {codes.shape} of {codes.dtype}."
            )
        if codes.min() < 0 or codes.max() >= self.num_codes:
            raise ValueError(
                f"`{name}` must be integers from 0 to {self.num_codes - 1}. Received: values from "
                f"{codes.min()} to {codes.max()}."
            )
        return codes.reshape(-1, self.event_size).astype(np.int64)


class _Block(layers.Layer):
    """A block of a transformer: causal self-attention, then a multilayer perceptron.

    Args:
        width: Number of features per position.
        num_heads: Number of attention heads.
        name: Name of the layer.
    """

    def __init__(self, width: int, num_heads: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.attention = layers.MultiHeadAttention(num_heads, width // num_heads, dtype="float32")
        self.first_normalization = layers.LayerNormalization(dtype="float32")
        self.second_normalization = layers.LayerNormalization(dtype="float32")
        self.hidden = layers.Dense(4 * width, "gelu", dtype="float32")
        self.output_layer = layers.Dense(width, dtype="float32")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Compute the features `[batch, event_size, width]` of all positions of a sequence."""
        normalized = self.first_normalization(x)
        x = x + self.attention(normalized, normalized, use_causal_mask=True)
        return x + self.output_layer(self.hidden(self.second_normalization(x)))

    def step(self, x: tf.Tensor, cache: _Cache, index: tf.Tensor) -> tuple[tf.Tensor, _Cache]:
        """Compute the features of one position, given the keys and values of earlier positions.

        Args:
            x: Features of the position, `[batch, 1, width]`.
            cache: Keys and values of all positions, two tensors `[batch, positions, heads, size]`,
                where `size` is the size of one head. The keys and values of later positions are
                ignored.
            index: Index of the position.

        Returns:
            The new features, and a new cache with the key and the value of this position.
        """
        normalized = self.first_normalization(x)
        keys, values = cache
        positions = tf.range(keys.shape[1])
        here = (positions == index)[:, None, None]
        keys = tf.where(here, self.attention.key_dense(normalized), keys)
        values = tf.where(here, self.attention.value_dense(normalized), values)
        attended = keras.ops.dot_product_attention(
            self.attention.query_dense(normalized),
            keys,
            values,
            mask=(positions <= index)[None, None, None],
        )
        x = x + self.attention.output_dense(attended)
        return x + self.output_layer(self.hidden(self.second_normalization(x))), (keys, values)


def _cross_entropy(codes: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return −Σ_i log p(c_i | c_1, …, c_{i−1}) of each sequence, `[batch]`."""
    labels = tf.cast(codes, tf.int64)  # Keras converts the target of a loss to floats
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(losses, axis=-1)
