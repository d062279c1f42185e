"""A recipe: the configuration of one kind of model, and the functions that build and complete it.

The recipe modules are imported by `keras-gen --help`, so they import Keras and TensorFlow only
inside functions.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_gen.models import GenerativeModel

_POSITIVE = (
    "batch_size",
    "epochs",
    "steps_per_execution",
    "images_every",
    "checkpoint_every",
    "patience",
    "clip_norm",
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings that every training run has.

    Each field is a flag of `keras-gen train`, its docstring of one line is the help text of the
    flag, and `config.yaml` holds its value. A recipe derives its configuration from this class. A
    field named `patience`, if there is one, is the patience of early stopping in epochs.

    Raises:
        ValueError: If a number is not positive, or settings exclude each other.
    """

    data: str = "mnist_mini"
    """The embedded mnist_mini, a TFDS data set by name, a folder of images, a .npz or .csv file."""
    data_dir: str | None = None
    """Folder where TFDS keeps its data. Default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    batch_size: int = 128
    """Examples per training step, summed over all devices."""
    steps_per_execution: int = 1
    """Training steps per compiled call. More are faster; progress and Ctrl-C wait for its end."""
    strategy: Literal["single", "mirrored", "multiworker"] = "single"
    """One device, all local GPUs, or all workers of TF_CONFIG (start the command on each)."""
    epochs: int = 40
    """Number of passes over the training data."""
    seed: int = 0
    """Seed of the initial weights, of the order of the data and of all noise."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of all runs. The new run is its subfolder NAME, or NAME-2, … if NAME exists."""
    name: str = "model"
    """Name of the run and of the SavedModel."""
    savedmodels: pathlib.Path = pathlib.Path("savedmodels")
    """Folder of all SavedModels. The new version is its subfolder NAME/<next integer>."""
    images_every: int = 10
    """Epochs between two images of samples and reconstructions. The last epoch always has them."""
    checkpoint_every: int | None = None
    """Training steps between two checkpoints. Each epoch ends with a checkpoint in any case."""
    deterministic: bool = False
    """Make runs with the same seed bit-for-bit identical, on the same machine and versions."""
    skip_corrupt: bool = False
    """Skip the image files that cannot be read, and report how many."""
    binarize: bool = False
    """Sample pixels as 0 or 1 by their grey value. Training images are resampled each epoch."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the learning rate: cosine decay to 0, or constant."""
    warm_up: int = 0
    """Training steps during which the learning rate rises from 0 to its initial value."""
    clip_norm: float | None = None
    """Largest norm of the gradient. A gradient with a larger norm is scaled down to it."""

    def __post_init__(self) -> None:
        """Check the values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            must_be_positive = field.name in _POSITIVE or field.name.endswith("learning_rate")
            if must_be_positive and value is not None and not value > 0:
                raise ValueError(
                    f"`{field.name}` must be greater than 0. Received: {field.name}={value!r}."
                )
        if self.steps_per_execution > 1 and self.strategy != "single":
            raise ValueError(
                "`steps_per_execution` must be 1 on several devices "
                "(github.com/keras-team/keras/issues/19246). "
                f"Received: steps_per_execution={self.steps_per_execution!r} with "
                f"strategy={self.strategy!r}. Use steps_per_execution=1 or strategy='single'."
            )

    @property
    def needs_labels(self) -> bool:
        """Whether the model is conditional, so that it is trained with the labels of the data."""
        return False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train one kind of model: `keras_gen.runs.register(name, recipe)` registers it.

    `RECIPES` feeds the subcommands of `keras-gen train`, their help, and the report of a run.

    Args:
        title: Name of the kind for the report, such as `"A variational autoencoder"`.
        config: Frozen dataclass derived from `RunConfig`. Its docstring is the help of the
            subcommand, its fields are the flags.
        build: Function `(config, data_shape, steps, num_classes)` that returns a compiled
            `GenerativeModel`. `data_shape` is the shape of one example, `steps` the number of
            training steps of the whole run, for the learning-rate schedule. `num_classes` is None
            unless `config.needs_labels`.
        after_fit: Function `(model, data)` that completes a trained model before it generates
            samples or is saved, for instance by fitting a density to its latents. `data` are
            training examples, an array or a `tf.data.Dataset`.
        examples: Up to three command lines that end the help of the subcommand.

    Raises:
        ValueError: If `config` is not a dataclass derived from `RunConfig`.

    Example:

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class SmallConfig(RunConfig):
    ...     '''Train a small model.'''
    ...     latent_size: int = 2
    ...     '''Number of latent dimensions.'''
    >>> def build(config, data_shape, steps, num_classes):
    ...     ...  # make and compile a GenerativeModel here
    >>> recipe = Recipe(title="A small model", config=SmallConfig, build=build)
    >>> recipe.config().latent_size
    2
    """

    title: str
    config: type[RunConfig]
    build: Callable[[Any, tuple[int, ...], int, int | None], GenerativeModel]
    after_fit: Callable[[Any, np.ndarray | tf.data.Dataset], None] | None = None
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the configuration."""
        config: Any = self.config
        is_config = isinstance(config, type) and issubclass(config, RunConfig)
        if not is_config or "__dataclass_fields__" not in vars(config):
            raise ValueError(
                "`config` of a Recipe must be a dataclass derived from keras_gen.runs.RunConfig. "
                f"Received: config={config!r}. Decorate the class with "
                "`@dataclasses.dataclass(frozen=True)`."
            )


def adam(
    config: RunConfig, steps: int, learning_rate: float, **kwargs: Any
) -> keras.optimizers.Adam:
    """Return Adam with the learning-rate schedule and the gradient clipping of a configuration.

    Args:
        config: Supplies `schedule`, `warm_up` and `clip_norm`.
        steps: Number of training steps of the schedule, warm-up included.
        learning_rate: Learning rate at the end of the warm-up.
        **kwargs: Further arguments of `keras.optimizers.Adam`.
    """
    import keras

    schedule: Any = learning_rate
    if config.schedule == "cosine" or config.warm_up:
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if config.warm_up else learning_rate,
            decay_steps=max(steps - config.warm_up, 1),
            alpha=0.0 if config.schedule == "cosine" else 1.0,
            warmup_target=learning_rate if config.warm_up else None,
            warmup_steps=config.warm_up,
        )
    return keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm, **kwargs)


def encoder_and_decoder(
    network: Literal["mlp", "conv"],
) -> tuple[Callable[..., keras.Model], Callable[..., keras.Model]]:
    """Return the functions of `keras_gen.networks` that build an encoder and a decoder."""
    from keras_gen import networks

    if network == "mlp":
        encoder = functools.partial(networks.mlp, hidden=(512, 256))
        decoder = functools.partial(networks.mlp, hidden=(256, 512))
        return encoder, decoder
    return networks.conv_encoder, networks.conv_decoder
