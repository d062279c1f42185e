"""`RunConfig`, the settings of a training run, and `Recipe`, the description of a kind of model.

`keras-gen --help` imports all recipe modules and must be fast. The import of TensorFlow is slow.
Therefore the recipe modules import Keras and TensorFlow only inside functions.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_gen._columns import Column
    from keras_gen.distributions import FittedDensity
    from keras_gen.models import GenerativeModel

    Builders = dict[str, tuple[Callable[..., keras.Model], Callable[..., keras.Model]]]

_POSITIVE = (
    "batch_size",
    "epochs",
    "steps_per_execution",
    "images_every",
    "checkpoint_every",
    "patience",
    "clip_norm",
    "blocks",
)

_SMALL_IMAGE = 32  # largest height and width in pixels
_MANY_EPOCHS = 300

DEFAULT_HIDDEN = (512, 256)
"""Units of the hidden layers of an encoder, if the user does not choose them."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings that every training run has.

    Each field is a flag of `keras-gen train`. The docstring below a field is the help text of the
    flag, and must be one line long. The file `config.yaml` of a run contains the value of each
    field.

    Each kind of model has a class of settings that is derived from this class. A derived class can
    have a field `patience` for early stopping. Training then ends after `patience` epochs without
    an improvement of a logged value. The attribute `monitor` of the model names this value.

    Raises:
        ValueError: If a setting that must be positive is not positive, or if `steps_per_execution`
            is greater than 1 and `strategy` is not `"single"`.
    """

    # Data
    data: str = "mnist_mini"
    """mnist_mini, penguins, a TFDS data set, a folder of images, an .npz file, or a table file."""
    data_dir: str | None = None
    """Folder of all TFDS data sets. Default: TFDS_DATA_DIR if set, else ~/tensorflow_datasets."""
    image_size: tuple[int, int] | None = None
    """Scale and crop images to this height and width in pixels. Default: keep their size."""
    flip: bool = False
    """Mirror each training image left to right with probability 1/2, resampled in each epoch."""
    binarize: bool = False
    """Sample each pixel as 0 or 1, with its grey value as probability. Resample in each epoch."""
    skip_corrupt: bool = False
    """Skip image files that cannot be read, and warn how many were skipped."""
    kinds: tuple[str, ...] = ()
    """Kinds of columns of a table, NAME=KIND, such as visits=count. They replace inferred kinds."""
    label: str | None = None
    """Column that keras-gen evaluate predicts with classifiers trained on generated rows."""

    # Training
    epochs: int = 40
    """Number of passes over the training data."""
    batch_size: int = 128
    """Examples per training step, summed over all devices."""
    steps_per_execution: int = 1
    """Training steps per call of TensorFlow. More is faster, but delays the display and Ctrl-C."""
    strategy: Literal["single", "mirrored", "multiworker"] = "single"
    """single: one device. mirrored: all local GPUs. multiworker: all workers of TF_CONFIG."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and all noise."""
    deterministic: bool = False
    """Make runs with the same seed bit-for-bit identical on the same machine and versions."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the learning rate: cosine decay to 0, or constant."""
    warm_up: int = 0
    """Training steps during which the learning rate rises from 0 to its initial value."""
    clip_norm: float | None = None
    """Largest norm of the gradient. A gradient with a larger norm is scaled down to this norm."""
    checkpoint_every: int | None = None
    """Interval in training steps between checkpoints. Each epoch also ends with a checkpoint."""

    # Output
    name: str = "model"
    """Name of the run and of the SavedModel."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of all runs. The new run is the subfolder NAME, or NAME-2, … if NAME exists."""
    savedmodels: pathlib.Path = pathlib.Path("savedmodels")
    """Folder of all SavedModels. The new version is the subfolder NAME/<next integer>."""
    images_every: int = 10
    """Interval in epochs between images of samples. The last epoch always writes images."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("kinds", "hidden", "filters"):
            if hasattr(self, name):
                object.__setattr__(self, name, tuple(getattr(self, name)))
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
        """Whether the model depends on the labels of the data."""
        return False

    @property
    def needs_after_fit(self) -> bool:
        """Whether a run with these settings calls the function `after_fit` of the recipe.

        This optional function prepares the trained model for generation. For instance, the function
        fits a density to the latents.
        """
        return True


@dataclasses.dataclass(frozen=True)
class NetworkConfig(RunConfig):
    """Base class for the settings of runs in which the user chooses the type of the networks.

    Each derived class defines the field `network` again, with the types that are allowed for its
    kind of model.
    """

    network: str = "mlp"
    """Type of the networks: mlp, conv, dcgan or residual."""
    hidden: tuple[int, ...] = DEFAULT_HIDDEN
    """Units of each hidden layer (only mlp). The decoder or generator has the reverse order."""
    filters: tuple[int, ...] = ()
    """Channels after each halving of the image size (not mlp). The default depends on this size."""
    blocks: int = 1
    """Number of residual blocks per entry of filters (only residual)."""


_NETWORK_DEFAULTS = {"hidden": DEFAULT_HIDDEN, "filters": (), "blocks": 1}
_FIELDS_OF_NETWORKS = {
    "mlp": ("hidden",),
    "conv": ("filters",),
    "dcgan": ("filters",),
    "residual": ("filters", "blocks"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A kind of model that `keras-gen train` can train: its settings and how to build it.

    `keras_gen.runs.register(kind, recipe)` adds the recipe to the dictionary `RECIPES`.
    `keras-gen train` has one subcommand for each recipe in `RECIPES`.

    Args:
        title: Name of the kind of model in the report, such as `"A variational autoencoder"`.
        config: Frozen dataclass derived from `RunConfig`. The docstring of the class is the help
            text of the subcommand, and the fields are the flags of the subcommand.
        build: Function `(config, data_shape, steps, num_classes)` that returns a compiled
            `GenerativeModel`. `data_shape` is the shape of one example. `steps` is the number of
            training steps of the whole run, which the learning-rate schedule needs. `num_classes`
            is the number of classes, or None if `config.needs_labels` is False.
        after_fit: Function `(model, data)` that prepares the model for generation. For instance,
            the function fits a density to the latents. A run calls the function before it writes
            images of samples, and before it saves the trained model. `data` contains training
            examples, as an array or a `tf.data.Dataset`. If `config.needs_after_fit` is False, the
            run does not call the function. Default: no preparation.
        examples: Up to three command lines, which the help text of the subcommand shows at its end.
        build_for_table: Function `(config, columns, steps)` that returns a compiled model of a
            table with these columns. If it is omitted, this kind of model cannot be trained on
            tables.
        table_defaults: Dictionary from names of fields of `config` to their defaults for a table.
            Default: the same defaults as for other data.
        image_defaults: Function `(config, data_shape, steps_per_epoch)` that returns a dictionary
            from names of fields to their defaults for images of the shape `data_shape`. It must not
            contain fields that are needed before, such as `seed`. Default: the same defaults for
            all images.

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
    build_for_table: Callable[[Any, Sequence[Column], int], GenerativeModel] | None = None
    table_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_defaults: Callable[[Any, tuple[int, ...], int], Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        """Check that `config` is a dataclass derived from `RunConfig`."""
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
    """Return the optimizer Adam with the learning-rate schedule and gradient clipping of `config`.

    Args:
        config: Configuration with the fields `schedule`, `warm_up` and `clip_norm`.
        steps: Number of training steps of the schedule, including the warm-up.
        learning_rate: Learning rate at the end of the warm-up. Without a warm-up, this is the
            learning rate at the first step.
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


def latent_density(
    kind: str | None, event_size: int, num_components: int | None = 10
) -> FittedDensity | None:
    """Return a density of the latents that is not fitted yet.

    Args:
        kind: `"mixture"`, `"flow"`, or None for no density.
        event_size: Number of latent dimensions.
        num_components: Number of components of a mixture. If None, the method `fit` of the mixture
            chooses this number. Default: 10.
    """
    from keras_gen import distributions

    if kind is None:
        return None
    if kind == "flow":
        return distributions.FittedFlow(event_size)
    return distributions.FittedMixture(event_size, num_components)


def network_arguments(config: NetworkConfig, data_shape: Sequence[int]) -> dict[str, Any]:
    """Return the arguments for the function that builds an encoder or a discriminator.

    Args:
        config: The settings of the networks.
        data_shape: Shape of one example.

    Returns:
        Dictionary of arguments: `hidden` for a multilayer perceptron, `filters` for a convolutional
        network, or `filters` and `blocks` for a residual network. If the value of `filters` is
        None, the function that builds the network computes the numbers of filters from the image
        size.

    Raises:
        ValueError: If a setting differs from its default, although it has no effect on networks of
            the chosen type. Also if the networks need images, but the examples are not images.
    """
    fields = _FIELDS_OF_NETWORKS[config.network]
    for name, default in _NETWORK_DEFAULTS.items():
        received = getattr(config, name)
        if name not in fields and received != default:
            raise ValueError(
                f"`{name}` must be {default!r} for network={config.network!r}, because such a "
                f"network does not have this setting. Received: {name}={received!r}. Omit "
                f"`{name}`, or choose another `network`."
            )
    if config.network == "mlp":
        return {"hidden": config.hidden}
    if len(data_shape) != 3:
        raise ValueError(
            "`network` must be 'mlp' unless the examples are images. Received: "
            f"network={config.network!r} for examples of shape {tuple(data_shape)}. Use "
            "network='mlp'."
        )
    filters = config.filters or None
    if config.network == "residual":
        return {"filters": filters, "blocks": config.blocks}
    return {"filters": filters}


def encoder_and_decoder(
    config: NetworkConfig, data_shape: Sequence[int]
) -> tuple[Callable[..., keras.Model], Callable[..., keras.Model]]:
    """Return two functions, which build the encoder and the decoder that `config` describes.

    In multilayer perceptrons, the decoder has the hidden layers of the encoder in reverse order. In
    other networks, the decoder has the filters of the encoder in reverse order.

    Args:
        config: The settings of the networks.
        data_shape: Shape of one example.

    Raises:
        ValueError: If a setting is not the default, but has no effect on networks of the chosen
            type. Also if the networks need images, and the examples are not images.
    """
    from keras_gen import networks

    builders: Builders = {
        "mlp": (networks.mlp, networks.mlp),
        "conv": (networks.conv_encoder, networks.conv_decoder),
        "residual": (networks.residual_encoder, networks.residual_decoder),
    }
    make_encoder, make_decoder = builders[config.network]
    arguments = network_arguments(config, data_shape)
    reversed_arguments = {
        name: value[::-1] if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }
    return (
        functools.partial(make_encoder, **arguments),
        functools.partial(make_decoder, **reversed_arguments),
    )


def defaults_of_photographs(
    config: RunConfig,
    data_shape: tuple[int, ...],
    steps_per_epoch: int,
    min_steps: int = 2000,
    **defaults: Any,
) -> dict[str, Any]:
    """Return the defaults of a kind of model for images in colour, and for images above 32×32.

    The default number of epochs is increased until the training has `min_steps` steps, but not
    above 300 epochs.

    Args:
        config: The settings of a training run.
        data_shape: Shape of one example.
        steps_per_epoch: Number of training steps per epoch.
        min_steps: The training has at least this number of steps, unless it would then have more
            than 300 epochs. Default: 2,000.
        **defaults: Further defaults, by field. `likelihood` only applies to images in colour, and
            neither `likelihood` nor `loss` to pixels that are sampled as 0 or 1 (setting
            `binarize`). `network` only applies if `hidden` has its default, because only
            multilayer perceptrons have the setting `hidden`. `batch_size` only applies if
            `config.batch_size` has its default.

    Returns:
        Dictionary from names of fields to their defaults. It is empty for smaller images in grey,
        and for data that are not images.

    Example:

    >>> defaults_of_photographs(RunConfig(), (64, 64, 3), 31, likelihood="normal")
    {'likelihood': 'normal', 'epochs': 65}
    >>> defaults_of_photographs(RunConfig(), (64, 64, 3), 16, batch_size=64)
    {'batch_size': 64, 'epochs': 63}
    >>> defaults_of_photographs(RunConfig(), (28, 28, 1), 31, likelihood="normal")
    {}
    """
    if len(data_shape) != 3 or (data_shape[-1] != 3 and max(data_shape[:2]) <= _SMALL_IMAGE):
        return {}
    if data_shape[-1] != 3 or config.binarize:
        defaults.pop("likelihood", None)
    if config.binarize:
        defaults.pop("loss", None)
    if getattr(config, "hidden", DEFAULT_HIDDEN) != DEFAULT_HIDDEN:
        defaults.pop("network", None)
    usual = type(config)()
    if config.batch_size != usual.batch_size:
        defaults.pop("batch_size", None)
    batch_size = defaults.get("batch_size", config.batch_size)
    enough = math.ceil(min_steps * batch_size / (steps_per_epoch * config.batch_size))
    return {**defaults, "epochs": max(usual.epochs, min(enough, _MANY_EPOCHS))}


def min_training_images(config: RunConfig, steps_per_epoch: int) -> int:
    """Return a lower bound of the number of training images.

    The images of the last batch are not counted, because this batch can be smaller.
    """
    return (steps_per_epoch - 1) * config.batch_size


def check_unused(
    config: Any, reason: str, *names: str, defaults: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Raise a `ValueError` if the user has changed a setting that has no effect.

    Args:
        config: The settings of a training run.
        reason: Why the settings have no effect. The error contains this text.
        *names: Names of the settings that have no effect.
        defaults: Defaults of the fields for these data, where they differ from those of the class.

    Example:

    >>> check_unused(RunConfig(), "there is one epoch", "schedule")
    >>> check_unused(RunConfig(warm_up=9), "there is no schedule", "warm_up")
    Traceback (most recent call last):
      ...
    ValueError: `warm_up` has no effect, because there is no schedule. Expected: the default 0. \
Received: warm_up=9. Omit `warm_up`.
    """
    usual = type(config)()
    for name in names:
        received = getattr(config, name)
        default = getattr(usual, name)
        if received not in (default, defaults.get(name, default)):
            raise ValueError(
                f"`{name}` has no effect, because {reason}. Expected: the default {default!r}. "
                f"Received: {name}={received!r}. Omit `{name}`."
            )


def check_table_settings(config: Any, **expected: object) -> None:
    """Raise a `ValueError` if a setting has a value that is not allowed for a table.

    For instance, `flip` must be False, because only images can be flipped.

    Args:
        config: The configuration of a training on a table.
        **expected: Further settings to check. Each keyword is the name of a setting, and its value
            is the only value that is allowed for a table.
    """
    for_images = {"binarize": False, "skip_corrupt": False, "image_size": None, "flip": False}
    expected = {**expected, **for_images}
    for name, value in expected.items():
        received = getattr(config, name)
        if received != value:
            raise ValueError(
                f"`{name}` must be {value!r} for a table. Received: {name}={received!r} for "
                f"{config.data}. Omit the setting, so that `keras-gen train` uses the value for "
                "tables. In Python, `keras_gen.runs.for_table(config)` sets the values for tables."
            )
