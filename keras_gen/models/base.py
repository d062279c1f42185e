"""What the generative models share: configuration, the forms of `fit`, noise, one optimizer step, generation, export."""

from __future__ import annotations

import contextlib
import math
import random
import types
from collections.abc import Sequence
from typing import Any, Literal, Self

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_integer
from keras_gen._export import serving_endpoints, write_saved_model, write_signature
from keras_gen._files import PathLike
from keras_gen._serialization import deserialize_arguments, serialize_arguments
from keras_gen._typing import Array, Data, Endpoint, TensorLike
from keras_gen.distributions import Prior
from keras_gen.fitting.checkpoints import Checkpoints
from keras_gen.fitting.data_check import DataCheck
from keras_gen.fitting.errors import NonFiniteError, assert_finite, step_errors
from keras_gen.fitting.fused_adam import fuse
from keras_gen.fitting.multi_worker import MultiWorkerModel, heeding_workers


class GenerativeModel(MultiWorkerModel):
    """Base of all models. A subclass names the parts of its loss, checks its networks and writes its steps.

    Args:
        data_check: The `DataCheck` of what `fit` is given.
        seed: Seed of all noise of the model, an int in [0, 2³¹); drawn with Python's `random` if None, which
            `keras.utils.set_random_seed` governs.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.
    """

    loss_parts: tuple[str, ...] = ()
    """Names under which the parts of the loss stand in the logs, beside `loss` itself."""
    compile_arguments: tuple[str, ...] = ()
    """Arguments of `compile` beyond those of Keras, each kept in the attribute of the same name and saved with the model."""
    monitor: tuple[str, Literal["min", "max"]] | None = ("val_loss", "min")
    """The logged value that early stopping watches, and its better direction; None if no value shows
    how good the model is."""
    evaluated_losses: tuple[str, ...] = ()
    """Names of the losses that compare models, so that an evaluation reports them."""
    loss_unit = ""
    """Unit of the losses, for instance `"nats"`."""
    has_encoder = True
    """Whether the model maps data to latents, so that it answers `encode` and `latents`."""
    has_log_likelihood = False
    """Whether log p(x) can be estimated by importance sampling, from `log_weights`."""
    generates_means = True
    """Whether `generate` returns means of p(x | z), such as the probabilities of binary pixels."""
    train_function: Any  # Keras says no type
    prior: Prior | None = None
    """What latents are drawn from to generate, a `distributions.Prior`."""

    def __init__(self, data_check: DataCheck, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_was_drawn = seed is None
        if seed is None:
            seed = random.getrandbits(31)
        if not is_integer(seed) or not 0 <= seed < 2**31:
            raise ValueError(f"`seed` is an int in [0, 2**31) or None. Received: seed={seed!r}")
        self.seed = int(seed)
        self.data_check = data_check
        self.part_trackers = [keras.metrics.Mean(name=part) for part in self.loss_parts]
        self.built = True

    @property
    def num_classes(self) -> int | None:
        """Number of labels that a conditional model is given as `y`, None for one without a condition."""
        return self.data_check.num_classes

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.data_check.shape

    # === Configuration ===

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and those of the Keras model."""
        return {**super().get_config(), **serialize_arguments(self)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """The model that `get_config` describes, untrained."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**deserialize_arguments(config))

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was given; None before."""
        config = super().get_compile_config()
        own = {name: getattr(self, name, None) for name in self.compile_arguments}
        return config and {
            **config,
            **{name: keras.saving.serialize_keras_object(value) for name, value in own.items()},
        }

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str,
        *,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure for training as `keras.Model.compile`, and make every slot of the optimizer, so that saved values find theirs."""
        if loss_weights is not None:
            raise ValueError(
                f"{type(self).__name__} has no `loss_weights`. Received: {loss_weights!r}. Weigh the terms of the loss."
            )
        super().compile(optimizer, **kwargs)
        self.optimizer.build(self.trainable_variables)
        if self.distribute_strategy.num_replicas_in_sync == 1:
            inner = getattr(
                self.optimizer, "inner_optimizer", self.optimizer
            )  # of a LossScaleOptimizer
            for each in getattr(inner, "optimizers", [inner]):
                fuse(each)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    # === What the user hands over ===

    def fit(
        self,
        x: Data | None = None,
        y: Array | None = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Literal["auto", 0, 1, 2] = "auto",
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Data | tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: TensorLike | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit`; `sample_weight` counts without `y`, too, and bad data are a `ValueError`.

        A loss or gradient that is not finite is a `NonFiniteError` and does not reach the weights. With `Checkpoints` among the
        callbacks, training goes on from the newest.
        """
        if class_weight is not None:
            raise ValueError(
                f"{type(self).__name__} learns no classes. Received: class_weight={class_weight!r}. Use `sample_weight`."
            )
        if self.distribute_strategy.num_replicas_in_sync > 1 and self.steps_per_execution > 1:
            raise ValueError(
                "Expected steps_per_execution=1 on several replicas (github.com/keras-team/keras/issues/19246). "
                f"Received: steps_per_execution={self.steps_per_execution}. Compile without it."
            )
        if isinstance(x, (tf.data.Dataset, types.GeneratorType)):
            shuffle = False  # Keras would warn that it leaves the order alone
        x, y, sample_weight = self._checked(x, y, sample_weight)
        if isinstance(validation_data, (tuple, list)):
            validation_data = self._checked(
                *keras.utils.unpack_x_y_sample_weight(tuple(validation_data)),
                name="validation_data",
            )
        elif validation_data is not None:
            validation_data = self._checked(validation_data, name="validation_data")[0]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            given = callbacks.callbacks
        else:
            given = callbacks = keras.tree.flatten(callbacks or [])
        if self.jit_compile and not any(
            isinstance(callback, _StopAtNonFinite) for callback in given
        ):
            given.append(_StopAtNonFinite())
            given[-1].set_model(self)
        arguments = {
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            **kwargs,
        }
        arguments |= {
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "shuffle": shuffle,
        }
        arguments |= {"validation_split": validation_split, "validation_data": validation_data}
        checkpoints = next(
            (callback for callback in given if isinstance(callback, Checkpoints)), None
        )
        around = (
            checkpoints.around(self, arguments)
            if checkpoints
            else contextlib.nullcontext(arguments)
        )
        with heeding_workers(self.distribute_strategy), around as arguments, step_errors():
            return super().fit(**arguments)

    def evaluate(
        self,
        x: Data | None = None,
        y: Array | None = None,
        *args: Any,
        sample_weight: TensorLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate`; `sample_weight` counts without `y`, too, and bad data are a `ValueError`."""
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with step_errors(), heeding_workers(self.distribute_strategy):
            return super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch as `keras.Model.train_on_batch`; bad data are a `ValueError`."""
        with step_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch as `keras.Model.test_on_batch`; bad data are a `ValueError`."""
        with step_errors():
            return super().test_on_batch(*args, **kwargs)

    def _checked(self, x, y=None, sample_weight=None, *, name="x"):
        """Data as they go to Keras: looked at, and `x` as its own target where Keras would drop weights for want of one."""
        self.data_check.before_work(x, y, name)
        if isinstance(x, tf.data.Dataset):
            return (self.data_check.in_pipeline(x) if self.jit_compile else x), y, sample_weight
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            y = x if y is None else y
        return x, y, sample_weight

    def unpack(self, data: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Check a batch of `fit` and split it.

        Args:
            data: `x`, `(x, target)` or `(x, target, sample_weight)`, where the target has the shape of the data.

        Returns:
            `(x, target, sample_weight)`; the target is `x` where none was given, the weight None or `[batch]`. What depends on the
            target does not run before its values are checked.

        Raises:
            ValueError: For labels in the place of the target, a wrong shape, integer pixels or weights not one an example.
        """
        x, target, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, target = self.data_check.in_step(x, target)
        if sample_weight is not None:
            shape = tf.TensorShape(sample_weight.shape)
            if not (shape.is_compatible_with((None,)) or shape.is_compatible_with((None, 1))):
                raise ValueError(
                    f"`sample_weight` has one weight for each example, shape (batch,). Received: shape {shape}"
                )
            sample_weight = tf.reshape(tf.cast(sample_weight, tf.float32), (-1,))
        return x, target, sample_weight

    def _unpack_labelled(self, data):
        """`unpack`, and before the weights the labels of a conditional model."""
        x, target, sample_weight = self.unpack(data)
        labels = keras.utils.unpack_x_y_sample_weight(data)[1] if self.num_classes else None
        return x, target, labels, sample_weight

    # === The step ===

    def make_train_function(self, force: bool = False) -> None:
        """Make Keras's function from an iterator to the logs of a step; on one device without its `Optional`, a tenth of a small step.

        Args:
            force: Make it anew.
        """
        if self.train_function is not None and not force:
            return
        super().make_train_function(force=True)
        if self.run_eagerly or self.steps_per_execution > 1:
            return
        step = tf.function(
            self.train_step, reduce_retracing=True, jit_compile=self.jit_compile, autograph=False
        )
        step, keras_own = self._autoconvert_optionals(step), self.train_function
        on_iterator = tf.function(
            lambda iterator: step(iterator.get_next()), reduce_retracing=True, autograph=False
        )
        self.train_function = lambda batches: (
            on_iterator if isinstance(batches, tf.data.Iterator) else keras_own
        )(batches)

    def noise_seed(self, training: bool) -> tf.Tensor:
        """A stateless seed, int32 `[2]`, of its own for each step, replica and purpose.

        Training folds in the optimizer's counter of steps, which is saved, so that a resumed run goes on with the noise it would have
        had; `iterations` would stand still while gradients are accumulated. Evaluation folds in the number of examples seen, so that
        batches differ and two evaluations agree.
        """
        inner: Any = getattr(
            self.optimizer, "inner_optimizer", self.optimizer
        )  # of a LossScaleOptimizer
        step = inner.variables[0] if training else self.part_trackers[0].count
        seed = tf.constant([self.seed, int(training)], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(step, tf.int32))
        return tf.random.experimental.stateless_fold_in(
            seed, tf.distribute.get_replica_context().replica_id_in_sync_group
        )

    def average(self, values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """The mean of one value per example, weighted: the only reduction there is. As in Keras, replicas count alike."""
        if sample_weight is not None:
            values = values * sample_weight
        examples = tf.cast(tf.shape(values)[0] * self._replicas, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values), examples)

    def regularization_loss(self, network: keras.Model | None = None) -> tf.Tensor:
        """The sum of the losses that the layers add of themselves, kernel regularizers above all, once over all replicas."""
        losses = (self if network is None else network).losses
        return (
            tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) / self._replicas
            if losses
            else tf.zeros(())
        )

    def minimize(
        self,
        tape: tf.GradientTape,
        x: tf.Tensor,
        loss: tf.Tensor,
        variables: Sequence[keras.Variable],
        parts: dict[str, tf.Tensor],
    ) -> tf.Tensor | float:
        """One optimizer step on `variables`, if the loss and its gradient are finite.

        The loss scale of mixed precision enters as the seed of the backward pass; a gradient that overflows by it is left to Keras,
        which lowers the scale.

        Args:
            tape: What the loss was computed on.
            x: The batch; of an uneven one, a replica may have no example and, with batch normalization, no gradient.
            loss: A scalar.
            variables: What it is minimized by.
            parts: The logged terms of the loss by name, for the error; the player's own first.

        Returns:
            What to add to the logged loss: 0, and under XLA, where no check can fail, NaN after a step that was not taken.

        Raises:
            NonFiniteError: By `fit` and, without XLA, `train_on_batch`, if the step cannot be taken.
        """
        if not variables:
            return 0.0
        gradients = tape.gradient(
            loss, variables, output_gradients=self.optimizer.scale_loss(tf.ones_like(loss))
        )
        if self._replicas > 1:
            gradients = _zero_unless(tf.size(x) > 0, gradients)
        finite = tf.math.is_finite(loss)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
        if self.jit_compile:
            self.optimizer.apply(_zero_unless(finite, gradients), variables)
            return tf.where(finite, 0.0, np.nan)
        with tf.control_dependencies([assert_finite(finite, self.optimizer.iterations + 1, parts)]):
            self.optimizer.apply(gradients, variables)
        return 0.0

    def log(self, x: tf.Tensor, **values: tf.Tensor) -> None:
        """Put the loss and its parts, as `average` made them, into the running means of the epoch."""
        examples = tf.shape(x)[0]
        for metric in self.metrics:
            if metric.name in values:
                metric.update_state(values[metric.name] * self._replicas, examples)

    def compute_metrics(
        self,
        x: tf.Tensor,
        y: tf.Tensor | None,
        y_pred: tf.Tensor | None,
        sample_weight: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Update the metrics given to `compile` and return all; data without a target are their own."""
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    @property
    def _replicas(self):
        return tf.distribute.get_strategy().num_replicas_in_sync

    # === Generation ===

    def decode(self, latents: Array) -> tf.Tensor:
        """The data that `latents` `[batch, n]` stand for, `[batch, *data_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} must turn latents into data in `decode`.")

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Map data to one latent vector per example.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` for a conditional model.

        Returns:
            Tensor `[batch, n]`.

        Raises:
            ValueError: If the model has no encoder.
        """
        raise ValueError(f"Expected a model with an encoder. Received: {type(self).__name__}.")

    def generate(
        self,
        num_samples: int | None = None,
        seed: int | TensorLike | None = None,
        condition: TensorLike | None = None,
    ) -> tf.Tensor:
        """New data: latents drawn from the prior, and decoded without further noise.

        Args:
            num_samples: How many.
            seed: An int in [0, 2³¹) for samples that can be had again; drawn anew if None. Or int64 `[num_samples]`, one a sample,
                as in the `generate` signature of the exported model, where sample i of `seed` is `seed * 2**32 + i`.
            condition: What a conditional model is to draw: one label, or one a sample.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If the model has no prior to draw from, or it is not clear how many samples of what are wanted.
        """
        seeds: Any = random.getrandbits(31) if seed is None else seed
        if is_integer(seeds) and is_integer(num_samples) and 0 <= seeds < 2**31 and num_samples > 0:
            seeds = (int(seeds) << 32) + tf.range(num_samples, dtype=tf.int64)
        elif not np.ndim(seeds) or num_samples not in (None, len(seeds)):
            raise ValueError(
                "`generate` takes a number of samples and an int seed in [0, 2**31), or a vector with one seed a sample. "
                f"Received: num_samples={num_samples!r}, seed={seed!r}"
            )
        seeds = tf.cast(seeds, tf.int64)
        if condition is None or not self.num_classes:
            return self.generate_rows(seeds, condition)["outputs"]
        condition = np.asarray(condition)
        if (
            not np.issubdtype(condition.dtype, np.integer)
            or not np.all((condition >= 0) & (condition < self.num_classes))
            or condition.shape not in ((), (len(seeds),))
        ):
            raise ValueError(
                f"Expected `condition` as one int from 0 to {self.num_classes - 1}, or one for each of the {len(seeds)} samples. "
                f"Received: {condition!r}"
            )
        return self.generate_rows(
            seeds, tf.broadcast_to(tf.constant(condition, tf.int64), tf.shape(seeds))
        )["outputs"]

    def generate_rows(
        self, seed: TensorLike, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """One sample a seed, the same whatever else is in the batch: the `generate` signature.

        Args:
            seed: int64 `[batch]`.
            condition: Labels `[batch]` for a conditional model.

        Returns:
            `{"outputs": [batch, *data_shape], "latents": [batch, n]}`.
        """
        given = self._given(condition)
        if self.prior is None:
            raise ValueError(
                f"{self.name} cannot generate: it has no distribution over its latents yet: fit_latent_density(x)."
            )
        latents = self.prior.sample_rows(seed, *given)
        return {"outputs": self.decode(latents, *given), "latents": latents}

    def _given(self, condition):
        """The condition as further arguments: none for a model without, one for a conditional model, which must have it."""
        if (condition is None) == bool(self.num_classes):
            expected = (
                f"a label from 0 to {self.num_classes - 1} for each example"
                if self.num_classes
                else "none"
            )
            raise ValueError(
                f"Expected as `condition` of {self.name} {expected}. Received: condition={condition!r}"
            )
        return () if condition is None else (condition,)

    # === Export ===

    def signatures(self) -> dict[str, Endpoint]:
        """The endpoints of an exported model: name → (function of tensors to a dictionary of tensors, input specs)."""
        raise NotImplementedError(
            f"{type(self).__name__} must name its endpoints in `signatures()`."
        )

    def endpoints(self, png: bool = False) -> dict[str, Endpoint]:
        """Return the endpoints of the SavedModel: the signatures, which also accept empty batches.

        Args:
            png: Whether to add an endpoint `NAME_bytes` per signature, with images as PNG files.

        Raises:
            ValueError: If `png` is true and the data are not images with values in [0, 1].
        """
        value_range = (self.data_check.low, self.data_check.high)
        return serving_endpoints(self.signatures(), self.data_shape, value_range, png)

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool = False,
        png: bool = False,
        signature: str = "serving_default",
        **kwargs: Any,
    ) -> None:
        """Write the signatures as a SavedModel for TensorFlow Serving, or one as ONNX or LiteRT.

        The SavedModel stores each weight once.

        Args:
            filepath: Folder to write, for TensorFlow Serving `BASE/<integer>`; a file `*.onnx` or
                `*.tflite` for these formats.
            format: `"tf_saved_model"` writes all signatures. `"onnx"` and `"litert"` write one
                signature, which accepts batches of at least one row. Further formats of
                `keras.Model.export` write `call` alone.
            verbose: Whether to print the endpoints of the SavedModel.
            png: Whether to add an endpoint `NAME_bytes` per signature to the SavedModel, with
                images as PNG files.
            signature: Name of the signature to write as ONNX or LiteRT.
            **kwargs: Further arguments of `keras.Model.export` for formats other than the
                SavedModel.

        Raises:
            ValueError: If the runtime cannot run the signature, or `png` is true and the data are
                not images with values in [0, 1].
        """
        if format == "tf_saved_model":
            write_saved_model(self.endpoints(png), filepath, verbose)
        elif format in ("onnx", "litert"):
            write_signature(self.signatures(), signature, filepath, format, self.name, **kwargs)
        else:
            super().export(filepath, format=format, verbose=verbose, **kwargs)

    def _data_spec(self):
        return tf.TensorSpec((None, *self.data_shape), tf.float32, name="inputs")

    def _seed_spec(self):
        return tf.TensorSpec((None,), tf.int64, name="seed")

    def _condition_specs(self):
        return [tf.TensorSpec((None,), tf.int64, name="condition")] if self.num_classes else []


def _zero_unless(condition, gradients):
    return [
        gradient if gradient is None else tf.where(condition, gradient, 0) for gradient in gradients
    ]


class _StopAtNonFinite(keras.callbacks.Callback):
    """Raises at the end of a step whose loss is not finite: for XLA, which leaves out the check in the step."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs.get("loss", 0)):
            parts = {
                name: float(value) for name, value in logs.items() if name in self.model.loss_parts
            }
            raise NonFiniteError.of(int(self.model.optimizer.iterations), {"loss": 0.0, **parts})
