"""The registry of recipes. A recipe describes one kind of model that `keras-gen train` trains."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_gen.runs.recipes import autoencoder, gan, hierarchical_vae, vae, vq_vae
from keras_gen.runs.recipes.autoencoder import AutoencoderConfig
from keras_gen.runs.recipes.gan import GANConfig
from keras_gen.runs.recipes.hierarchical_vae import HierarchicalVAEConfig
from keras_gen.runs.recipes.recipe import Recipe, RunConfig, check_table_settings
from keras_gen.runs.recipes.vae import VAEConfig
from keras_gen.runs.recipes.vq_vae import VQVAEConfig

if TYPE_CHECKING:
    from keras_gen._columns import Column
    from keras_gen.models import GenerativeModel

__all__ = [
    "RECIPES",
    "AutoencoderConfig",
    "GANConfig",
    "HierarchicalVAEConfig",
    "Recipe",
    "RunConfig",
    "VAEConfig",
    "VQVAEConfig",
    "build",
    "build_for_table",
    "for_images",
    "for_table",
    "image_defaults",
    "kind_of",
    "register",
]

RECIPES: dict[str, Recipe] = {
    "autoencoder": autoencoder.RECIPE,
    "vae": vae.RECIPE,
    "hierarchical_vae": hierarchical_vae.RECIPE,
    "gan": gan.RECIPE,
    "vq_vae": vq_vae.RECIPE,
}
"""The recipe of each kind of model. `keras-gen train KIND` uses `RECIPES[KIND]`."""


def register(kind: str, recipe: Recipe) -> None:
    """Register a kind of model, so that `keras-gen train KIND` trains it.

    Call `register` in a Python file of your own. The command `keras-gen --import FILE train KIND`
    then imports this file and trains the model.

    Args:
        kind: Name of the subcommand. It starts with a lower-case letter and consists of lower-case
            letters, digits, `_` and `-`.
        recipe: The recipe.

    Raises:
        ValueError: If `kind` is invalid or already registered, if `recipe` is not a `Recipe`, or if
            another kind uses the configuration class of `recipe`.

    Example:

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class SmallConfig(RunConfig):
    ...     '''Train a small model.'''
    >>> def build(config, data_shape, steps, num_classes):
    ...     ...  # make and compile a GenerativeModel here
    >>> register("small", Recipe("A small model", SmallConfig, build))
    >>> sorted(RECIPES)
    ['autoencoder', 'gan', 'hierarchical_vae', 'small', 'vae', 'vq_vae']
    >>> del RECIPES["small"]
    """
    if not isinstance(kind, str) or not re.fullmatch("[a-z][a-z0-9_-]*", kind):
        raise ValueError(
            "`kind` must consist of lower-case letters, digits, `_` and `-`, and start with a "
            f"letter. Received: kind={kind!r}."
        )
    if kind in RECIPES:
        raise ValueError(
            f"`kind` must be a new name. Received: kind={kind!r}, which is registered already. "
            f"Choose another name, or remove the old recipe: `del RECIPES[{kind!r}]`."
        )
    if not isinstance(recipe, Recipe):
        raise ValueError(f"`recipe` must be a keras_gen.runs.Recipe. Received: recipe={recipe!r}.")
    if recipe.config in [known.config for known in RECIPES.values()]:
        raise ValueError(
            "Each kind must have a configuration class of its own. "
            f"Received: {recipe.config.__name__}, which another kind uses."
        )
    RECIPES[kind] = recipe


def kind_of(config: RunConfig) -> str:
    """Return the name of the kind of model that `config` configures.

    Args:
        config: A configuration, for instance `VAEConfig()`.

    Raises:
        ValueError: If no registered recipe uses the class of `config`.

    Example:

    >>> kind_of(VAEConfig())
    'vae'
    """
    for kind, recipe in RECIPES.items():
        if type(config) is recipe.config:
            return kind
    known = ", ".join(recipe.config.__name__ for recipe in RECIPES.values())
    raise ValueError(
        f"`config` must be an instance of the configuration class of a registered kind: {known}. "
        f"Received: config={config!r}. `keras_gen.runs.register` registers a kind of your own."
    )


def build(
    config: RunConfig, data_shape: tuple[int, ...], steps: int, num_classes: int | None = None
) -> GenerativeModel:
    """Build and compile the model that `config` describes.

    Args:
        config: A configuration, for instance `VAEConfig()`.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the learning-rate schedule.
        num_classes: Number of classes if `config.needs_labels` is True, otherwise None.

    Raises:
        ValueError: If no registered recipe uses the class of `config`, or if a setting is invalid.

    Example:

    >>> model = build(VAEConfig(network="mlp", latent_size=2), data_shape=(8, 8, 1), steps=100)
    >>> model.generate(3, seed=0).shape.as_list()
    [3, 8, 8, 1]
    """
    recipe = RECIPES[kind_of(config)]
    return recipe.build(config, data_shape, steps, num_classes)


def for_table(config: RunConfig) -> RunConfig:
    """Return a copy of a configuration in which defaults for tables replace defaults for images.

    Args:
        config: A configuration. A field is replaced only if its value is the default for images.
            In the example, `latent_size` keeps the value of the user.

    Example:

    >>> config = for_table(VAEConfig(data="penguins", latent_size=3))
    >>> config.network, config.likelihood, config.latent_size
    ('mlp', 'columns', 3)
    """
    return _with_defaults(config, RECIPES[kind_of(config)].table_defaults)


def for_images(config: RunConfig, data_shape: tuple[int, ...], steps_per_epoch: int) -> RunConfig:
    """Return a copy of a configuration with the defaults for images of some shape.

    For instance, the default likelihood of images in colour is the normal likelihood. `keras-gen
    train` uses these defaults for flags that the user omits.

    Args:
        config: A configuration. A field is replaced only if its value is the default for small
            images in grey. In the example, `latent_size` keeps the value of the user.
        data_shape: Shape of one example, such as `(64, 64, 3)`.
        steps_per_epoch: Number of training steps per epoch with the batch size of `config`. The
            returned configuration can have another batch size.

    Example:

    >>> config = for_images(VAEConfig(data="photos", latent_size=3), (64, 64, 3), 31)
    >>> config.likelihood, config.latent_size, config.epochs
    ('normal', 3, 130)
    """
    return _with_defaults(config, image_defaults(config, data_shape, steps_per_epoch))


def image_defaults(
    config: RunConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> Mapping[str, Any]:
    """Return the defaults of a kind of model for images of the shape `data_shape`, by field."""
    function = RECIPES[kind_of(config)].image_defaults
    return {} if function is None else function(config, data_shape, steps_per_epoch)


def _with_defaults(config: RunConfig, defaults: Mapping[str, Any]) -> RunConfig:
    """Return a copy of a configuration in which other defaults replace those of its class."""
    usual = type(config)()
    changes = {
        name: value
        for name, value in defaults.items()
        if getattr(config, name) == getattr(usual, name)
    }
    return dataclasses.replace(config, **changes)


def build_for_table(config: RunConfig, columns: Sequence[Column], steps: int) -> GenerativeModel:
    """Build and compile the model that `config` describes, for the rows of a table.

    Args:
        config: The configuration of a registered kind of model, such as
            `for_table(VAEConfig(data="penguins"))`. `for_table` sets the defaults for tables.
        columns: The columns of the table, such as `table.columns`.
        steps: Number of training steps of the whole run, for the learning-rate schedule.

    Raises:
        ValueError: If the kind of model cannot be trained on tables, or if a setting is invalid.
    """
    recipe = RECIPES[kind_of(config)]
    if recipe.build_for_table is None:
        known = [kind for kind, other in RECIPES.items() if other.build_for_table is not None]
        raise ValueError(
            f"The kind of model must be one that can be trained on tables: {', '.join(known)}. "
            f"Received: {kind_of(config)}, and the table {config.data}. Use the VAE: "
            f"`keras-gen train vae --data {config.data}`."
        )
    check_table_settings(config)
    return recipe.build_for_table(config, columns, steps)
