"""What the generative models share: configuration, `fit`, noise, one optimizer step, generation."""

from __future__ import annotations

import contextlib
import math
import random
import types
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_integer
from keras_gen._compat import MultiWorkerModel, one_step_function, step_counter
from keras_gen._export import serving_endpoints, write_saved_model, write_signature
from keras_gen._files import PathLike
from keras_gen._serialization import deserialize_arguments, serialize_arguments
from keras_gen._typing import Array, Data, Endpoint, TensorLike
from keras_gen.distributions import Prior
from keras_gen.fitting.around import WrapsFit
from keras_gen.fitting.data_check import DataCheck
from keras_gen.fitting.errors import NonFiniteError, assert_finite, step_errors
from keras_gen.fitting.fused_adam import fuse
from keras_gen.fitting.multi_worker import worker_errors


class CheckedBatch(NamedTuple):
    """A batch of `fit` after the check of its data."""

    x: tf.Tensor
    """Data `[batch, *data_shape]`, float32."""
    target: tf.Tensor
    """What the model must output for `x`; `x` itself if no target was given."""
    labels: tf.Tensor | None
    """Labels `[batch]` of a conditional model, None for any other."""
    sample_weight: tf.Tensor | None
    """Weights `[batch]`, or None."""


class GenerativeModel(MultiWorkerModel):
    """Base of all models. A subclass names the parts of its loss and writes its steps.

    Args:
        data_check: The `DataCheck` of what `fit` is given.
        seed: Seed of all noise of the model, an int in [0, 2³¹). If None, it is drawn with Python's
            `random`, which `keras.utils.set_random_seed` seeds.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.
    """

    loss_parts: tuple[str, ...] = ()
    """Names of the logged parts of the loss, apart from `loss` itself."""
    compile_arguments: tuple[str, ...] = ()
    """Arguments of `compile` beyond those of Keras. Each is kept in the attribute of the same name
    and saved with the model."""
    monitor: tuple[str, Literal["min", "max"]] | None = ("val_loss", "min")
    """The logged value that early stopping watches, and whether it should fall or rise. None if no
    value shows how good the model is."""
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
    train_function: Any  # Keras declares no type
    prior: Prior | None = None
    """The distribution of the latents that `generate` samples from."""

    def __init__(self, data_check: DataCheck, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_was_drawn = seed is None
        if seed is None:
            seed = random.getrandbits(31)
        if not is_integer(seed) or not 0 <= seed < 2**31:
            raise ValueError(
                f"`seed` must be an integer in [0, 2**31) or None. Received: seed={seed!r}"
            )
        self.seed = int(seed)
        self.data_check = data_check
        self.part_trackers = [keras.metrics.Mean(name=part) for part in self.loss_parts]
        self.built = True

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a conditional model, whose labels are `y`; None for any other."""
        return self.data_check.num_classes

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.data_check.shape

    # === Configuration ===

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments and those of the Keras model."""
        return {**super().get_config(), **serialize_arguments(self)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """Make the untrained model that `get_config` describes."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**deserialize_arguments(config))

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, or None for a model that is not compiled."""
        config = super().get_compile_config()
        if not config:
            return config
        for name in self.compile_arguments:
            config[name] = keras.saving.serialize_keras_object(getattr(self, name, None))
        return config

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str,
        *,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure the model for training as `keras.Model.compile` does.

        All variables of the optimizer are made here, so that a saved model can restore them.
        """
        if loss_weights is not None:
            raise ValueError(
                f"{type(self).__name__} has no `loss_weights`. Received: {loss_weights!r}. Set the "
                "weights of the terms of the loss themselves."
            )
        super().compile(optimizer, **kwargs)
        self.optimizer.build(self.trainable_variables)
        if self.distribute_strategy.num_replicas_in_sync == 1:
            inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
            for one_optimizer in getattr(inner, "optimizers", [inner]):
                fuse(one_optimizer)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model as the saved one was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    # === What the user passes to `fit` and `evaluate` ===

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
        """Train the model as `keras.Model.fit` does.

        Weights of examples count without `y`, too. With `Checkpoints` among the callbacks, training
        continues from the newest checkpoint.

        Raises:
            ValueError: If data are invalid. In that case nothing is trained.
            NonFiniteError: If a loss or gradient becomes NaN or infinite. It does not change the
                weights.
        """
        if class_weight is not None:
            raise ValueError(
                f"{type(self).__name__} learns no classes. "
                f"Received: class_weight={class_weight!r}. Use `sample_weight`."
            )
        if self.distribute_strategy.num_replicas_in_sync > 1 and self.steps_per_execution > 1:
            raise ValueError(
                "Expected steps_per_execution=1 on several replicas "
                "(github.com/keras-team/keras/issues/19246). "
                f"Received: steps_per_execution={self.steps_per_execution}. Compile without it."
            )
        if isinstance(x, (tf.data.Dataset, types.GeneratorType)):
            shuffle = False  # Keras would warn that it does not shuffle them
        x, y, sample_weight = self._checked(x, y, sample_weight)
        if isinstance(validation_data, (tuple, list)):
            parts = keras.utils.unpack_x_y_sample_weight(tuple(validation_data))
            validation_data = self._checked(*parts, name="validation_data")
        elif validation_data is not None:
            validation_data, _, _ = self._checked(validation_data, name="validation_data")
        if isinstance(callbacks, keras.callbacks.CallbackList):
            listed = callbacks.callbacks
        else:
            listed = callbacks = keras.tree.flatten(callbacks or [])
        if self.jit_compile and not any(isinstance(each, _StopAtNonFinite) for each in listed):
            listed.append(_StopAtNonFinite())
            listed[-1].set_model(self)
        arguments = {
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            **kwargs,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
            "shuffle": shuffle,
            "validation_split": validation_split,
            "validation_data": validation_data,
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(worker_errors(self.distribute_strategy))
            for callback in list(listed):
                if isinstance(callback, WrapsFit):
                    arguments = stack.enter_context(callback.around(self, arguments))
            stack.enter_context(step_errors())
            return super().fit(**arguments)

    def evaluate(
        self,
        x: Data | None = None,
        y: Array | None = None,
        *args: Any,
        sample_weight: TensorLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate the model as `keras.Model.evaluate` does.

        Weights of examples count without `y`, too.

        Raises:
            ValueError: If data are invalid.
        """
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with step_errors(), worker_errors(self.distribute_strategy):
            return super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch as `keras.Model.train_on_batch`; errors are those of `fit`."""
        with step_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch as `keras.Model.test_on_batch`; errors are those of `evaluate`."""
        with step_errors():
            return super().test_on_batch(*args, **kwargs)

    def _checked(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, name: str = "x"
    ) -> tuple[Any, Any, Any]:
        """Check data and return them as Keras receives them.

        Keras drops weights where there is no target. There, `x` becomes its own target.
        """
        self.data_check.before_work(x, y, name)
        if isinstance(x, tf.data.Dataset):
            if self.jit_compile:
                x = self.data_check.in_pipeline(x)
            return x, y, sample_weight
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            y = x if y is None else y
        return x, y, sample_weight

    def unpack(self, data: Any) -> CheckedBatch:
        """Check a batch of `fit` and split it.

        Args:
            data: `x`, `(x, target)` or `(x, target, sample_weight)`; of a conditional model
                `(x, labels)` or `(x, labels, sample_weight)`.

        Returns:
            A `CheckedBatch`. What depends on its target does not run before the values are checked.

        Raises:
            ValueError: For labels in the place of the target, a wrong shape, integer pixels, or
                weights of a shape other than `(batch,)`.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, target = self.data_check.in_step(x, y)
        labels = y if self.num_classes else None
        if sample_weight is not None:
            shape = tf.TensorShape(sample_weight.shape)
            if not (shape.is_compatible_with((None,)) or shape.is_compatible_with((None, 1))):
                raise ValueError(
                    "`sample_weight` must have one weight for each example, shape (batch,). "
                    f"Received: shape {shape}"
                )
            sample_weight = tf.reshape(tf.cast(sample_weight, tf.float32), (-1,))
        return CheckedBatch(x, target, labels, sample_weight)

    # === The step ===

    def make_train_function(self, force: bool = False) -> None:
        """Make the function from a data iterator to the logs of one step.

        Args:
            force: Whether to make it again if there is one.
        """
        if self.train_function is not None and not force:
            return
        super().make_train_function(force=True)
        one_device = self.distribute_strategy.num_replicas_in_sync == 1
        if one_device and not self.run_eagerly and self.steps_per_execution == 1:
            self.train_function = one_step_function(self, self.train_function)

    def noise_seed(self, training: bool) -> tf.Tensor:
        """Return a stateless seed, int32 `[2]`, which differs by step, replica and purpose.

        In training, the seed depends on the optimizer's count of steps. That count is saved, so a
        resumed training continues with the noise of an uninterrupted one. In evaluation, it depends
        on the number of examples so far, so that batches differ and two evaluations agree.
        """
        seen = self.part_trackers[0].count
        step = step_counter(self.optimizer) if training else seen
        seed = tf.constant([self.seed, int(training)], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(step, tf.int32))
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.random.experimental.stateless_fold_in(seed, replica)

    def average(self, values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Reduce one value per example `[batch]` to their weighted mean, a scalar.

        This is the only reduction of losses. As in Keras, all replicas count alike.
        """
        if sample_weight is not None:
            values = values * sample_weight
        examples = tf.cast(tf.shape(values)[0] * self._replicas, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values), examples)

    def regularization_loss(self, network: keras.Model | None = None) -> tf.Tensor:
        """Return the sum of the losses that layers add, such as kernel regularizers.

        Summed over all replicas, it counts once.

        Args:
            network: Whose layers; all networks of the model if None.
        """
        losses = (self if network is None else network).losses
        if not losses:
            return tf.zeros(())
        return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) / self._replicas

    def minimize(
        self,
        tape: tf.GradientTape,
        x: tf.Tensor,
        loss: tf.Tensor,
        variables: Sequence[keras.Variable],
        parts: dict[str, tf.Tensor],
    ) -> tf.Tensor | float:
        """Take one optimizer step on `variables`, if the loss and its gradient are finite.

        Under mixed precision the loss scale multiplies the gradient of the loss. A gradient that
        overflows for that reason is left to Keras, which lowers the scale.

        Args:
            tape: Records the computation of the loss.
            x: The batch. A replica may have none of the examples of a partial batch, and with batch
                normalization no gradient then.
            loss: A scalar.
            variables: The variables that the step changes.
            parts: Logged terms of the loss by name, for the error; the first names the gradient.

        Returns:
            What to add to the logged loss: 0. Under XLA, which cannot raise errors, NaN after a
            step that was not taken.

        Raises:
            NonFiniteError: By `fit` and, without XLA, by `train_on_batch`, if the loss or the
                gradient is not finite.
        """
        if not variables:
            return 0.0
        scale = self.optimizer.scale_loss(tf.ones_like(loss))
        gradients = tape.gradient(loss, variables, output_gradients=scale)
        if self._replicas > 1:
            gradients = _zero_unless(tf.size(x) > 0, gradients)
        finite = tf.math.is_finite(loss)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
        if self.jit_compile:
            self.optimizer.apply(_zero_unless(finite, gradients), variables)
            return tf.where(finite, 0.0, np.nan)
        check = assert_finite(finite, self.optimizer.iterations + 1, parts)
        with tf.control_dependencies([check]):
            self.optimizer.apply(gradients, variables)
        return 0.0

    def log(self, x: tf.Tensor, **values: tf.Tensor) -> None:
        """Update the running means of the epoch.

        Args:
            x: The batch, whose size is the weight of the values.
            **values: The loss and its parts, as `average` returned them.
        """
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
        """Update the metrics given to `compile` and return all logs.

        The target of data without one are the data themselves.
        """
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    @property
    def _replicas(self) -> int:
        return tf.distribute.get_strategy().num_replicas_in_sync

    # === Latents and generation ===

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

    def decode(self, latents: Array) -> tf.Tensor:
        """Map latents `[batch, n]` to data `[batch, *data_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} must map latents to data in `decode`.")

    def generate(
        self,
        num_samples: int | None = None,
        seed: int | TensorLike | None = None,
        condition: TensorLike | None = None,
    ) -> tf.Tensor:
        """Generate data: sample latents from the prior, and decode them without further noise.

        Args:
            num_samples: Number of samples.
            seed: An int in [0, 2³¹) for reproducible samples; None for new ones in every call. Or
                int64 `[num_samples]`, one seed per sample, as in the `generate` signature of the
                exported model: sample i of `seed` has the seed `seed * 2**32 + i`.
            condition: For a conditional model one label, or one label per sample.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If the model has no prior, or an argument is invalid.
        """
        seeds: Any = random.getrandbits(31) if seed is None else seed
        one_seed = is_integer(seeds) and 0 <= seeds < 2**31
        if one_seed and is_integer(num_samples) and num_samples > 0:
            seeds = (int(seeds) << 32) + tf.range(num_samples, dtype=tf.int64)
        elif not np.ndim(seeds) or num_samples not in (None, len(seeds)):
            raise ValueError(
                "`generate` needs a positive number of samples with an integer seed in [0, 2**31), "
                "or a vector with one seed per sample. "
                f"Received: num_samples={num_samples!r}, seed={seed!r}"
            )
        seeds = tf.cast(seeds, tf.int64)
        if condition is not None and self.num_classes:
            condition = self._label_per_sample(condition, len(seeds), self.num_classes)
        return self.generate_rows(seeds, condition)["outputs"]

    def _label_per_sample(
        self, condition: TensorLike, num_samples: int, num_classes: int
    ) -> tf.Tensor:
        """Return checked labels `[num_samples]`, int64, from one label or one label per sample."""
        labels = np.asarray(condition)
        known = np.issubdtype(labels.dtype, np.integer) and np.all(
            (labels >= 0) & (labels < num_classes)
        )
        if not known or labels.shape not in ((), (num_samples,)):
            raise ValueError(
                f"Expected `condition` as one integer from 0 to {num_classes - 1}, or one for each "
                f"of the {num_samples} samples. Received: {labels!r}"
            )
        return tf.broadcast_to(tf.constant(labels, tf.int64), (num_samples,))

    def generate_rows(
        self, seed: TensorLike, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """Generate one sample per seed: the `generate` signature.

        A sample does not depend on the other seeds of its batch.

        Args:
            seed: int64 `[batch]`.
            condition: Labels `[batch]` for a conditional model.

        Returns:
            `{"outputs": [batch, *data_shape], "latents": [batch, n]}`.

        Raises:
            ValueError: If the model has no prior, or labels are missing or not allowed.
        """
        labels = self._condition_arguments(condition)
        if self.prior is None:
            raise ValueError(
                f"{self.name} cannot generate, since it has no distribution of its latents yet. "
                "Call fit_latent_density(x)."
            )
        latents = self.prior.sample_rows(seed, *labels)
        return {"outputs": self.decode(latents, *labels), "latents": latents}

    def _condition_arguments(self, condition: TensorLike | None) -> tuple[TensorLike, ...]:
        """Return the labels as further arguments: one for a conditional model, none for any other.

        Raises:
            ValueError: If labels are missing or not allowed.
        """
        if (condition is None) == bool(self.num_classes):
            expected = "none"
            if self.num_classes:
                expected = f"a label from 0 to {self.num_classes - 1} for each example"
            raise ValueError(
                f"Expected as `condition` of {self.name} {expected}. "
                f"Received: condition={condition!r}"
            )
        return () if condition is None else (condition,)

    # === Export ===

    def signatures(self) -> dict[str, Endpoint]:
        """Return the endpoints of an exported model by name.

        An endpoint is a pair: a function of tensors that returns a dictionary of tensors, and the
        specs of its inputs.
        """
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

    def _data_spec(self) -> tf.TensorSpec:
        return tf.TensorSpec((None, *self.data_shape), tf.float32, name="inputs")

    def _seed_spec(self) -> tf.TensorSpec:
        return tf.TensorSpec((None,), tf.int64, name="seed")

    def _condition_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec((None,), tf.int64, name="condition")] if self.num_classes else []


def _zero_unless(condition: tf.Tensor, gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Replace all gradients by zero unless the condition holds."""
    return [
        gradient if gradient is None else tf.where(condition, gradient, 0) for gradient in gradients
    ]


class _StopAtNonFinite(keras.callbacks.Callback):
    """Raises after a step whose loss is not finite, for XLA, which omits the check in the step."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if math.isfinite(logs.get("loss", 0)):
            return
        names = self.model.loss_parts
        parts = {name: float(value) for name, value in logs.items() if name in names}
        raise NonFiniteError.of(int(self.model.optimizer.iterations), {"loss": 0.0, **parts})
