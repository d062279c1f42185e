"""Define the base class of all models, which trains, saves and exports a model."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_integer, positive_int
from keras_gen._columns import Column
from keras_gen._compat import MultiWorkerModel, one_step_function, saves_hdf5, step_counter
from keras_gen._export import serving_endpoints, write_saved_model, write_signature
from keras_gen._export_columns import column_endpoints
from keras_gen._files import PathLike
from keras_gen._labels import as_tensor
from keras_gen._serialization import from_config, get_config, remember_arguments
from keras_gen._tracing import Graphs, traced
from keras_gen._typing import Array, Data, Endpoint, Examples, TensorLike
from keras_gen.distributions import Prior
from keras_gen.fitting.around import WrapsFit
from keras_gen.fitting.data_check import DataCheck, check_not_empty
from keras_gen.fitting.errors import NonFiniteError, assert_finite, step_errors
from keras_gen.fitting.fused_adam import compute_in_float32, fuse
from keras_gen.fitting.gan_optimizer import keras_optimizer
from keras_gen.fitting.multi_worker import worker_errors

_HDF5_MESSAGE = (
    "Expected a file name that ends in '.keras'. Received: {}. This old format of Keras does not "
    "support models with a training step of their own. Use model.save('model.keras'), or "
    "model.save_weights('model.weights.h5') for the weights alone."
)


class CheckedBatch(NamedTuple):
    """The parts of one batch of data, whose shapes, dtypes and values have been checked."""

    x: tf.Tensor
    """Data `[batch, *data_shape]`, float32."""
    target: tf.Tensor
    """The output that the model should produce for `x`. If the data have no target, this is `x`
    itself."""
    labels: tf.Tensor | None
    """Labels `[batch]` if the model is conditional, otherwise None."""
    sample_weight: tf.Tensor | None
    """One weight per example, `[batch]`, or None if the data have no weights."""


class GenerativeModel(MultiWorkerModel):
    """The base class of all models, a subclass of `keras.Model`.

    The class checks the data that a model receives, makes reproducible random seeds, generates
    samples, and exports models. A subclass sets `loss_parts`, the names of the logged values, and
    implements `train_step`, `test_step` and `signatures`. A model that generates data also
    implements `decode`.

    Args:
        data_check: A `DataCheck`, an object that checks the shape, dtype and values of data and
            labels.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, Python's
            `random` module chooses the seed. `keras.utils.set_random_seed` makes this choice
            reproducible.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.
    """

    loss_parts: tuple[str, ...] = ()
    """Names of all logged values except `loss`. Most of these values are terms of the loss."""
    compile_arguments: tuple[str, ...] = ()
    """Names of the arguments that the model's `compile` has in addition to those of
    `keras.Model.compile`. The model keeps each additional argument in an attribute of the same
    name, and saves it."""
    monitor: tuple[str, Literal["min", "max"]] | None = ("val_loss", "min")
    """Pair of the name of the logged value that early stopping watches, and the direction. The
    direction is `"min"` if a low value is good, and `"max"` if a high value is good. `monitor` is
    None if no logged value measures the quality of the model."""
    evaluated_losses: tuple[str, ...] = ()
    """Names of the losses with which models can be compared. `keras-gen evaluate` reports them."""
    loss_unit = ""
    """Unit of the losses, for instance `"nats"`."""
    evaluated_metrics: tuple[str, ...] = ()
    """Names of other logged values, without a unit, that `keras-gen evaluate` reports."""
    has_encoder = True
    """Whether the model can map data to latents."""
    has_continuous_latents = True
    """Whether the latents are vectors of real numbers, which can be varied and interpolated. False
    for codes, which are integers."""
    num_decoded: int | None = None
    """Number of latents that `decode` uses, the first entries of a latent vector. None if `decode`
    uses all latents."""
    has_log_likelihood = False
    """Whether the model has a method `log_weights`, with which log p(x) can be estimated."""
    generates_means = True
    """Whether `generate` returns means of p(x | z), the distribution of data x given latents z. If
    pixels are binary, the mean of a pixel is the probability of the value 1."""
    columns: tuple[Column, ...] = ()
    """Columns of the table, if each example is a row of a table. Empty for all other data."""
    train_function: Any  # Keras declares no type
    prior: Prior | None = None
    """Distribution p(z) of the latents, or None. If `prior` and `density` are both None, `generate`
    raises an error."""
    density: Prior | None = None
    """Density that was fitted to latents after training. If None, `generate` uses the prior."""
    fits_prior_with = "fit_latent_density(x)"
    """Python code that fits a distribution of the latents after training, for error messages."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a model that stores the arguments of its constructor.

        `get_config` reads the stored arguments when the model is saved.
        """
        instance = super().__new__(cls, *args, **kwargs)
        remember_arguments(instance, args, kwargs)
        return instance

    def __init__(self, data_check: DataCheck, seed: int | None = None, **kwargs: Any) -> None:
        if isinstance(kwargs.get("name"), str):
            # TensorFlow refuses other names when it traces the first graph.
            kwargs["name"] = re.sub(r"^[^A-Za-z0-9.]|[^A-Za-z0-9_.>/-]", "_", kwargs["name"])
        # Under mixed precision, Keras would otherwise round the data to float16, even if the first
        # layer of the network, such as `ColumnFeatures`, computes in float32.
        super().__init__(autocast=False, **kwargs)
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and delete all graphs in `method_graphs` if the value is new.

        A graph can contain the old value. The graphs are kept if the attribute is `stop_training`,
        or if its name begins with an underscore.
        """
        is_new = vars(self).get(name) is not value
        if is_new and name != "stop_training" and not name.startswith("_"):
            self.__dict__.pop("method_graphs", None)
        super().__setattr__(name, value)

    @functools.cached_property
    def method_graphs(self) -> Graphs:
        """TensorFlow graphs that compute the results of methods such as `generate` in eager mode.

        The decorator `traced` makes these graphs.
        """
        return Graphs()

    @property
    def latent_distribution(self) -> Prior | None:
        """Distribution from which `generate` samples latents: the density, or else the prior.

        None if the model has neither.
        """
        return self.prior if self.density is None else self.density

    @property
    def num_classes(self) -> int | None:
        """Number of classes if the model is conditional (uses labels), otherwise None."""
        return self.data_check.num_classes

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.data_check.shape

    # === Saving and compiling ===

    def save(self, filepath: PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model as a `.keras` file, like `keras.Model.save`.

        Raises:
            ValueError: If `filepath` does not end in `.keras`, or if Keras could not restore the
                model from the file.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(_HDF5_MESSAGE.format(f"{str(filepath)!r}"))
        super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments from which Keras restores a saved model.

        The arguments of `keras.Model`, such as `name`, are included.

        Raises:
            ValueError: If the model cannot be restored from these arguments, or if Keras is saving
                an HDF5 file.
        """
        if saves_hdf5():
            raise ValueError(_HDF5_MESSAGE.format("a file in the HDF5 format"))
        return get_config(self)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """Make a new, untrained model from the result of `get_config`."""
        return from_config(cls, config, custom_objects)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, or None if the model is not compiled."""
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
        """Configure the model for training, like `keras.Model.compile`.

        The method also creates the variables of the optimizer. Therefore a saved state of the
        optimizer can be loaded as soon as the model is compiled.

        Raises:
            ValueError: If `loss_weights` is given, if `optimizer` is not a Keras optimizer, or if
                the optimizer does not work with the bfloat16 weights of the model.
        """
        if loss_weights is not None:
            raise ValueError(
                f"{type(self).__name__} has no `loss_weights`. Received: {loss_weights!r}. Set the "
                "weight of each term in the object that defines it, such as R1(weight=10.0)."
            )
        super().compile(keras_optimizer("optimizer", optimizer), **kwargs)
        self.optimizer.build(self.trainable_variables)
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for one_optimizer in getattr(inner, "optimizers", [inner]):
            compute_in_float32(one_optimizer, one_optimizer.variables)
            if self.distribute_strategy.num_replicas_in_sync == 1:
                fuse(one_optimizer)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model with the arguments that `get_compile_config` returned."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    # === Training and evaluation ===

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
        """Train the model, like `keras.Model.fit`.

        Unlike in Keras, `sample_weight` also works without `y`. If `callbacks` contains a
        `Checkpoints` callback, training continues from the newest checkpoint.

        Raises:
            ValueError: If an argument or the data are invalid. Arrays are checked before training
                starts. The values of data sets and generators are checked during training, in each
                batch.
            NonFiniteError: If a loss or a gradient is NaN or infinite. The training step with this
                loss or gradient does not change the weights, except in two cases. The docstring of
                `NonFiniteError` describes these cases.
        """
        if class_weight is not None:
            raise ValueError(
                f"{type(self).__name__} does not accept `class_weight`. "
                f"Received: class_weight={class_weight!r}. Use `sample_weight`."
            )
        if self.distribute_strategy.num_replicas_in_sync > 1 and self.steps_per_execution > 1:
            raise ValueError(
                "Expected steps_per_execution=1 on several replicas, because of a bug in Keras "
                "(github.com/keras-team/keras/issues/19246). "
                f"Received: steps_per_execution={self.steps_per_execution}. Compile without it."
            )
        numbers = {"batch_size": batch_size, "steps_per_epoch": kwargs.get("steps_per_epoch")}
        for name, number in numbers.items():
            if number is not None:  # Keras would replace 0 by its default
                positive_int(None, name, number)
        if isinstance(x, (tf.data.Dataset, types.GeneratorType)):
            shuffle = False  # Keras would warn that it cannot shuffle these data
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
            history = super().fit(**arguments)
        if history.epoch and "loss" not in history.history:
            raise ValueError("Expected at least one batch in `x`. Received: none.")
        return history

    def evaluate(
        self,
        x: Data | None = None,
        y: Array | None = None,
        *args: Any,
        sample_weight: TensorLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compute the losses and metrics for the given data, like `keras.Model.evaluate`.

        Unlike in Keras, `sample_weight` also works without `y`.

        Raises:
            ValueError: If the data are invalid, or if there is no example.
        """
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with step_errors(), worker_errors(self.distribute_strategy):
            logs = super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)
        if isinstance(logs, (dict, list)) and not logs:
            raise ValueError("Expected at least one batch to evaluate. Received: none.")
        return logs

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the output of the model for many examples, like `keras.Model.predict`.

        Raises:
            ValueError: If the data are invalid, or if there is no example.
        """
        if x is None:
            raise ValueError("Expected data as `x`. Received: None.")
        check_not_empty(x)
        if not isinstance(x, tf.data.Dataset):
            if tf.is_tensor(x) or isinstance(x, (np.ndarray, list, tuple)):
                self.check_inputs(x)
        elif self.jit_compile:  # XLA omits the check in the model
            x = x.map(self._checked_inputs)
        with step_errors(), worker_errors(self.distribute_strategy):
            try:
                return super().predict(x, *args, **kwargs)
            except UnboundLocalError:  # Keras raises it if the data have no batch
                raise ValueError("Expected at least one batch in `x`. Received: none.") from None

    def check_inputs(self, inputs: Any) -> Any:
        """Check the inputs of the method `call`, and return these inputs.

        The base class checks nothing. A subclass overrides this method to check its inputs.

        Args:
            inputs: The data or latents that `call` receives. For a conditional model, a pair of
                data and labels, or a pair of latents and labels.

        Returns:
            The inputs. In a TensorFlow graph, an operation that uses the returned inputs runs only
            after the check.

        Raises:
            ValueError: If the inputs are invalid. In a TensorFlow graph, invalid values fail an
                assertion.
        """
        return inputs

    def split_inputs(self, inputs: Any) -> tuple[Any, ...]:
        """Return the argument of the method `call` as a tuple.

        The tuple is `(inputs, labels)` if the model is conditional, otherwise `(inputs,)`.

        Raises:
            ValueError: If the inputs of a conditional model are not a pair.
        """
        if not self.num_classes:
            return (inputs,)
        if not isinstance(inputs, (tuple, list)) or len(inputs) != 2:
            raise ValueError(
                f"{self.name} is conditional, so it must be called with a pair, such as "
                f"model((x, labels)). Received: a {type(inputs).__name__}."
            )
        return tuple(inputs)

    def _checked_inputs(self, *batch: Any) -> tuple[Any]:
        """Check the inputs of `call` in a batch of a data set, and return them without targets.

        They are the only entry of a tuple, because Keras would take a pair for `(x, y)`.
        """
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        return (self.check_inputs(x),)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, like `keras.Model.train_on_batch`.

        Invalid data raise the same errors as in `fit`.
        """
        check_not_empty(args[:1] or kwargs.get("x"))
        with step_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the model on one batch, like `keras.Model.test_on_batch`.

        Invalid data raise the same errors as in `evaluate`.
        """
        check_not_empty(args[:1] or kwargs.get("x"))
        with step_errors():
            return super().test_on_batch(*args, **kwargs)

    def _checked(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, name: str = "x"
    ) -> tuple[Any, Any, Any]:
        """Check the data that `fit` or `evaluate` received, before Keras uses the data.

        Keras ignores `sample_weight` if `y` is None. Therefore, if there are weights but no `y`,
        this method returns `x` as `y`.

        Args:
            x: Data, an array or a data set.
            y: Labels, targets or None.
            sample_weight: One weight per example, or None.
            name: Name of `x` in error messages. Default: `"x"`.

        Returns:
            `(x, y, sample_weight)`, the arguments for `fit` or `evaluate` of `keras.Model`.
        """
        if x is None:
            raise ValueError(f"Expected data as `{name}`. Received: None.")
        self.data_check.before_work(x, y, name)
        if isinstance(x, tf.data.Dataset):
            if self.jit_compile:
                x = self.data_check.in_pipeline(x)
            return x, y, sample_weight
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            _check_weights(sample_weight)
            y = x if y is None else y
        return x, y, sample_weight

    def unpack(self, data: Any) -> CheckedBatch:
        """Split one batch of data into its parts, and check each part.

        Args:
            data: `x`, `(x, target)` or `(x, target, sample_weight)`. For a conditional model:
                `(x, labels)` or `(x, labels, sample_weight)`. The target is the output that the
                model should produce for `x`. By default, the target is `x`.

        Returns:
            A `CheckedBatch`. In a TensorFlow graph, an operation that uses the field `target` runs
            only after the values are checked.

        Raises:
            ValueError: If `x` or the target has the wrong shape, dtype or values. If labels are
                missing or invalid. If `sample_weight` does not have one weight per example.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, target, labels = self.data_check.in_step(x, y)
        if sample_weight is not None:
            shape = tf.TensorShape(sample_weight.shape)
            if not (shape.is_compatible_with((None,)) or shape.is_compatible_with((None, 1))):
                raise ValueError(
                    "`sample_weight` must have shape (batch,), one weight for each example. "
                    f"Received: shape {shape}"
                )
            sample_weight = tf.reshape(tf.cast(sample_weight, tf.float32), (-1,))
        return CheckedBatch(x, target, labels, sample_weight)

    # === The training step ===

    def make_train_function(self, force: bool = False) -> None:
        """Make the function `train_function`, like `keras.Model.make_train_function`.

        `fit` calls `train_function` with an iterator of batches. Each call trains on the next
        `steps_per_execution` batches, and returns the losses and metrics by name.

        Args:
            force: Whether to replace an existing `train_function`. Default: False.
        """
        if self.train_function is not None and not force:
            return
        super().make_train_function(force=True)
        one_device = self.distribute_strategy.num_replicas_in_sync == 1
        if one_device and not self.run_eagerly and self.steps_per_execution == 1:
            self.train_function = one_step_function(self, self.train_function)

    def noise_seed(self, training: bool) -> tf.Tensor:
        """Return a seed for the stateless random functions of TensorFlow, int32 `[2]`.

        The seed differs between steps, between training and evaluation, and between replicas. A
        replica is a copy of the model on one of several devices.

        In training, the seed depends on the number of steps, which a checkpoint contains. Therefore
        a resumed training uses the same noise as an uninterrupted training. In evaluation, the seed
        depends on the position of the batch in the data. Therefore each batch has other noise, and
        a second call of `evaluate` with the same data uses the same noise again.
        """
        seen = self.part_trackers[0].count
        step = step_counter(self.optimizer) if training else seen
        seed = tf.constant([self.seed, int(training)], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(step, tf.int32))
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.random.experimental.stateless_fold_in(seed, replica)

    def average(self, values: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        """Return the mean of `values`, which have the shape `[batch]`: one value per example.

        If `sample_weight` is given, each value is multiplied by the weight of its example. As in
        Keras, the sum is divided by the number of examples, not by the sum of the weights. During
        training on several devices, each device has a copy of the model, a replica. TensorFlow adds
        the gradients of all replicas. Therefore the result is also divided by the number of
        replicas. If the batch is empty, the result is 0.
        """
        if sample_weight is not None:
            values = values * sample_weight
        examples = tf.cast(tf.shape(values)[0] * self._replicas, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values), examples)

    def regularization_loss(self, network: keras.Model | None = None) -> tf.Tensor:
        """Return the sum of the losses that layers add, such as the losses of kernel regularizers.

        During training on several devices, each device has a copy of the model, a replica.
        TensorFlow adds the gradients of all replicas. Therefore the sum is divided by the number of
        replicas.

        Args:
            network: The network whose layers are included. If None, the layers of all networks of
                the model are included.
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

        A `keras.optimizers.LossScaleOptimizer` multiplies the loss by a scale, and the scaled
        gradient can become infinite. In this case, no error is raised. Instead, Keras skips the
        step and lowers the scale.

        A step that is compiled with XLA cannot raise an error. Therefore, if the loss or the
        gradient is not finite, such a step sets the gradient to zero. An optimizer with momentum
        then still changes the variables.

        Args:
            tape: The gradient tape that recorded the computation of the loss.
            x: The batch. During training on several devices, the batch of one device can be empty.
                Batch normalization can make the gradients of an empty batch NaN. Therefore these
                gradients are set to zero.
            loss: The loss, a scalar.
            variables: The variables that the step changes.
            parts: Logged terms of the loss by name. The error message names the terms that are not
                finite. If all terms are finite but the gradient is not, the message names the first
                term.

        Returns:
            A number that the caller adds to the logged loss. If the loss and the gradient are
            finite, the number is 0. If the step is compiled with XLA and the loss or the gradient
            is not finite, the number is NaN.

        Raises:
            NonFiniteError: If the loss or the gradient is not finite. In a TensorFlow graph, an
                assertion fails, and the context manager `step_errors` converts this failure to the
                `NonFiniteError`. With XLA, `fit` raises this error after the step, and
                `train_on_batch` raises no error.
        """
        if not variables:
            return 0.0
        scale = self.optimizer.scale_loss(tf.ones_like(loss))
        gradients = tape.gradient(loss, variables, output_gradients=scale)
        if self._replicas > 1:
            gradients = _zero_unless(tf.size(x) > 0, gradients)
        finite = tf.math.is_finite(loss)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            finite &= _all_finite(gradients)
        if self.jit_compile:
            self.optimizer.apply(_zero_unless(finite, gradients), variables)
            return tf.where(finite, 0.0, np.nan)
        check = assert_finite(finite, self.optimizer.iterations + 1, parts)
        with tf.control_dependencies([check]):
            self.optimizer.apply(gradients, variables)
        return 0.0

    def log(self, x: tf.Tensor, **values: tf.Tensor) -> None:
        """Update the running means of the epoch with the values of one batch.

        Args:
            x: The batch. Its number of examples is the weight of `values` in the running means.
            **values: The loss and its terms by name. Each value is a mean over the batch, computed
                by the method `average`.
        """
        examples = tf.shape(x)[0]
        for metric in self.metrics:
            if metric.name not in values:
                continue
            value = values[metric.name] * self._replicas
            if type(metric) is keras.metrics.Mean:
                # `update_state` does the same, but with five times as many operations.
                count = tf.cast(examples, metric.dtype)
                metric.total.assign_add(tf.cast(value, metric.dtype) * count)
                metric.count.assign_add(count)
            else:
                metric.update_state(value, examples)

    def compute_metrics(
        self,
        x: tf.Tensor,
        y: tf.Tensor | None,
        y_pred: tf.Tensor | None,
        sample_weight: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Update the metrics that the user passed to `compile`, and return all metric values.

        These metrics compare the prediction `y_pred` with the target `y`. If `y` is None, the
        target is the data `x`.
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
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            Tensor `[batch, n]`, where n is the size of a latent vector.

        Raises:
            ValueError: If the model has no encoder.
        """
        raise ValueError(f"Expected a model with an encoder. Received: {type(self).__name__}.")

    def decode(self, latents: Array) -> tf.Tensor:
        """Map latents `[batch, n]` to data `[batch, *data_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `decode`.")

    def generate(
        self,
        num_samples: int | None = None,
        seed: int | TensorLike | None = None,
        condition: TensorLike | None = None,
    ) -> tf.Tensor:
        """Generate data from latents that are sampled from the prior.

        If the model has a fitted `density`, the latents are sampled from this density instead. For
        a model of a table, the method samples each row x from p(x | z), given its latents z.
        For other data, such as images, the method decodes the latents and adds no noise.

        Args:
            num_samples: Number of samples. Can be None if `seed` is a vector.
            seed: If None, every call returns new samples. An int in [0, 2³¹) makes the samples
                reproducible: the seed of sample i is then `seed * 2**32 + i`. An int64 vector
                `[num_samples]` contains one seed per sample. The exported function `generate`
                takes such a vector.
            condition: One label for all samples, or one label per sample. None if the model is not
                conditional.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If the model has neither a prior nor a fitted density, or if an argument is
                invalid.
        """
        seeds = self.seeds(num_samples, seed)
        if condition is not None and self.num_classes:
            condition = self._label_per_sample(condition, len(seeds), self.num_classes)
        return self.generate_rows(seeds, condition)["outputs"]

    def seeds(self, num_samples: int | None, seed: int | TensorLike | None = None) -> tf.Tensor:
        """Return the random seeds of the samples to generate, one seed per sample.

        The seeds are an int64 tensor `[num_samples]`.

        Args:
            num_samples: Number of samples. Can be None if `seed` is a vector.
            seed: None, an int in [0, 2³¹), or an int64 vector with one seed per sample, as in
                `generate`. Default: None.

        Raises:
            ValueError: If an argument is invalid.
        """
        seeds: Any = random.getrandbits(31) if seed is None else seed
        one_seed = is_integer(seeds) and 0 <= seeds < 2**31
        if one_seed and is_integer(num_samples) and num_samples > 0:
            seeds = (int(seeds) << 32) + tf.range(num_samples, dtype=tf.int64)
        elif not _is_vector_of_integers(seeds) or num_samples not in (None, len(seeds)):
            raise ValueError(
                "`num_samples` must be a positive integer, and `seed` must be None or an integer "
                "in [0, 2**31). Or `seed` can be a vector of integers, one per sample, and "
                "`num_samples` can be omitted. "
                f"Received: num_samples={num_samples!r}, seed={seed!r}"
            )
        return tf.cast(seeds, tf.int64)

    def _label_per_sample(
        self, condition: TensorLike, num_samples: int, num_classes: int
    ) -> tf.Tensor:
        """Check the labels, and return one label per sample, int64 `[num_samples]`."""
        labels = np.asarray(condition)
        known = np.issubdtype(labels.dtype, np.integer) and np.all(
            (labels >= 0) & (labels < num_classes)
        )
        if not known or labels.shape not in ((), (num_samples,)):
            raise ValueError(
                f"`condition` must be an integer from 0 to {num_classes - 1}, or {num_samples} "
                f"such integers, one per sample. Received: {labels!r}"
            )
        return tf.broadcast_to(tf.constant(labels, tf.int64), (num_samples,))

    @traced("seed", "condition")
    def generate_rows(
        self, seed: TensorLike, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """Generate one sample per seed. In the exported model, this method is called `generate`.

        A sample depends on its own seed, but not on the other seeds in the batch.

        Args:
            seed: One seed per sample, int64 `[batch]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A dictionary. `outputs` are the generated data, `[batch, *data_shape]`. `latents` are
            the latents that were decoded, `[batch, n]`.

        Raises:
            ValueError: If the model has neither a prior nor a fitted density. If a conditional
                model gets no labels, or if a model that is not conditional gets labels. If an
                argument is invalid.
        """
        prior, labels = self.checked_row_arguments(seed, condition)
        latents = prior.sample_rows(seed, *labels)
        return {"outputs": self.outputs_for(latents, seed, *labels), "latents": latents}

    def checked_row_arguments(
        self, seed: TensorLike, condition: TensorLike | None
    ) -> tuple[Any, tuple[tf.Tensor, ...]]:
        """Check the arguments of `generate_rows`, and return the distribution and the labels.

        Args:
            seed: One seed per sample, int64 `[batch]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            `(prior, labels)`. `prior` is the distribution from which `generate_rows` samples
            latents: the density if the model has a fitted density, otherwise the prior. `labels` is
            the tuple `(condition,)`, or an empty tuple if `condition` is None.

        Raises:
            ValueError: If the model has neither a prior nor a fitted density, or if an argument is
                invalid.
        """
        if not _is_vector_of_integers(seed):
            raise ValueError(f"`seed` must be a vector of integers. Received: seed={seed!r}")
        labels = self._condition_arguments(condition, seed)
        prior = self.latent_distribution
        if prior is None:
            raise ValueError(
                f"{self.name} cannot generate, since it has no distribution of its latents yet. "
                f"Call {self.fits_prior_with}."
            )
        return prior, labels

    def outputs_for(
        self, latents: tf.Tensor, seed: TensorLike, condition: TensorLike | None = None
    ) -> tf.Tensor:
        """Compute the data that `generate` returns, from latents that are sampled already.

        The base class returns `decode(latents)`. A model can override this method to sample the
        data from a likelihood.

        Args:
            latents: Latents `[batch, n]`.
            seed: One seed per sample, int64 `[batch]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        labels = () if condition is None else (condition,)
        return self.decode(latents, *labels)

    def _condition_arguments(
        self, condition: TensorLike | None, len_of: Any = None
    ) -> tuple[tf.Tensor, ...]:
        """Check the labels that a method receives, and return them as a tuple of arguments.

        The tuple is `(condition,)`, or empty if `condition` is None. The caller can pass it to
        another method, such as `self.decode(latents, *labels)`.

        Args:
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            len_of: An array or a tensor with one row per label. If None, the number of labels is
                not checked.

        Raises:
            ValueError: If a conditional model gets no labels, if a model that is not conditional
                gets labels, or if a label is invalid. In a TensorFlow graph, an invalid label fails
                an assertion.
        """
        if (condition is None) == bool(self.num_classes):
            expected = "be None, because the model is not conditional"
            if self.num_classes:
                expected = f"be a label from 0 to {self.num_classes - 1} for each example"
            raise ValueError(
                f"`condition` of {self.name} must {expected}. Received: condition={condition!r}"
            )
        if condition is None:
            return ()
        return (self.data_check.labels(condition, len_of=len_of),)

    def checked_arguments(
        self, x: Any, condition: TensorLike | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Check the data and the labels that a method receives, and return `(x, labels)`.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Raises:
            ValueError: If the data or the labels are invalid. In a TensorFlow graph, invalid values
                fail an assertion.
        """
        x = self.data_check.inputs(x)
        labels = self._condition_arguments(condition, x)
        return x, labels[0] if labels else None

    def checked_latents(self, latents: Array, shape: tuple[int, ...]) -> tf.Tensor:
        """Check latents that a method such as `decode` receives, and return them as float32.

        Args:
            latents: Latents `[batch, *shape]`.
            shape: Shape of the latents of one example.

        Raises:
            ValueError: If the latents have the wrong shape, or are not finite numbers. In a
                TensorFlow graph, an assertion fails if a value is not finite.
        """
        values = as_tensor("latents", latents)
        if not values.dtype.is_floating and not values.dtype.is_integer:
            raise ValueError(f"Expected `latents` as numbers. Received: dtype {values.dtype.name}.")
        return DataCheck(shape).inputs(tf.cast(values, tf.float32), "latents")

    # === Export ===

    def signatures(self) -> dict[str, Endpoint]:
        """Return a dictionary of the functions that `export` writes, and their input specs.

        A key is the name of a function. A value is a pair `(function, specs)`. The function takes
        tensors and returns a dictionary of tensors. `specs` is a list with the `tf.TensorSpec` of
        each argument of the function.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `signatures`.")

    def endpoints(self, png: bool = False) -> dict[str, Endpoint]:
        """Return the functions for a SavedModel, as a dictionary from names to pairs.

        A pair consists of a function and a list with the `tf.TensorSpec` of each of its arguments.
        The dictionary contains the functions of the method `signatures`, changed so that they also
        accept empty batches.

        If the data are rows of a table, the dictionary also contains a function `NAME_columns` for
        each function NAME that receives or returns rows. Instead of a tensor of rows,
        `NAME_columns` has one named input or output per column.

        Args:
            png: Whether to add a function `NAME_bytes` for each function NAME. The added function
                receives and returns images as PNG files. Default: False.

        Raises:
            ValueError: If `png` is True and the data are not images with values in [0, 1].
        """
        value_range = (self.data_check.low, self.data_check.high)
        example = self.data_check.example
        endpoints = serving_endpoints(self.signatures(), self.data_shape, value_range, png, example)
        if self.columns:
            endpoints |= column_endpoints(endpoints, self.columns)
        return endpoints

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool = False,
        png: bool = False,
        signature: str = "serving_default",
        **kwargs: Any,
    ) -> None:
        """Export the model as a SavedModel, an ONNX file or a LiteRT file.

        A SavedModel contains all functions that the method `signatures` returns, and stores each
        weight once. TensorFlow Serving can load a SavedModel. An ONNX or LiteRT file contains one
        function.

        Args:
            filepath: For a SavedModel, the folder to write. TensorFlow Serving needs a folder whose
                name is an integer, such as `models/1`. For ONNX, a file `*.onnx`. For LiteRT, a
                file `*.tflite`.
            format: `"tf_saved_model"`, `"onnx"`, `"litert"`, or another format of
                `keras.Model.export`. A function in an ONNX or LiteRT file does not accept empty
                batches. A file of another format than SavedModel, ONNX and LiteRT contains only
                the method `call`. Default: `"tf_saved_model"`.
            verbose: Whether to print the functions of the SavedModel. Default: False.
            png: Whether to add a function `NAME_bytes` to the SavedModel for each function NAME.
                The added function receives and returns images as PNG files. Default: False.
            signature: Name of the function to write into an ONNX or LiteRT file. Default:
                `"serving_default"`.
            **kwargs: Other arguments of `keras.Model.export`. For a SavedModel, they are ignored.

        Raises:
            ValueError: If ONNX Runtime or LiteRT cannot run the function, or if `png` is True but
                the data are not images with values in [0, 1].
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


def batches_of(x: Examples) -> Iterator[Any]:
    """Yield the data of each batch of `x`, without labels and weights.

    Args:
        x: An array, or a `tf.data.Dataset` of batches.
    """
    if not isinstance(x, tf.data.Dataset):
        x = tf.data.Dataset.from_tensor_slices(x).batch(256)
    for batch in x:
        yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def _all_finite(gradients: list[tf.Tensor | None]) -> tf.Tensor:
    """Return whether all gradients are finite, a scalar bool.

    The function tests the norm of the gradients, which is faster than a test of each element.
    Gradients with 16 bits are cast to float32 first, because the squares in the norm can overflow
    in float16.
    """
    finite = tf.constant(True)
    given = [gradient for gradient in gradients if gradient is not None]
    for dtype in {gradient.dtype for gradient in given}:
        same = [gradient for gradient in given if gradient.dtype == dtype]
        if dtype.size < tf.float32.size:
            same = [tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in same]
        finite &= tf.math.is_finite(tf.linalg.global_norm(same))
    return finite


def _zero_unless(condition: tf.Tensor, gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Return the gradients if the condition is true, and zeros if it is false.

    A gradient that is None stays None.
    """
    return [
        gradient if gradient is None else tf.where(condition, gradient, 0) for gradient in gradients
    ]


def _is_vector_of_integers(values: Any) -> bool:
    """Return whether an array, a tensor or a list has one axis, and contains integers.

    If an array or a list with one axis is empty, the result is True for every dtype.
    """
    if tf.is_tensor(values):
        return bool(values.shape.rank == 1 and values.dtype.is_integer)
    array = np.asarray(values)
    return array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)


def _check_weights(sample_weight: np.ndarray) -> None:
    """Raise a `ValueError` if a weight is negative, NaN or infinite, or is not a number."""
    numeric = sample_weight.dtype.kind in "biuf"
    if numeric and np.all((sample_weight >= 0) & np.isfinite(sample_weight)):
        return
    received = f"dtype {sample_weight.dtype}"
    if numeric:
        received = f"values from {sample_weight.min()} to {sample_weight.max()}"
    raise ValueError(
        "`sample_weight` must be finite numbers of at least 0, one for each example. "
        f"Received: {received}."
    )


class _StopAtNonFinite(keras.callbacks.Callback):
    """Callback that raises a `NonFiniteError` after a step whose loss is not finite.

    `fit` uses this callback with the compiler XLA, because XLA cannot raise errors inside a step.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if math.isfinite(logs.get("loss", 0)):
            return
        names = self.model.loss_parts
        parts = {name: float(value) for name, value in logs.items() if name in names}
        raise NonFiniteError.of(int(self.model.optimizer.iterations), {"loss": 0.0, **parts})
