"""Convert a configuration to the text of `config.yaml`, and back.

A configuration contains the settings of a training run. The folder of each run contains a file
`config.yaml`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import pathlib
import typing
from collections.abc import Mapping
from typing import Any

import tyro
import yaml

from keras_gen.runs.recipes import RECIPES, RunConfig, kind_of
from keras_gen.runs.recipes.recipe import NetworkConfig

_RENAMED = {"pictures_every": "images_every"}  # fields of version 0.1.0 that have a new name
_FORMER_FILTERS = {"conv": (32, 64), "dcgan": (64, 128)}
"""Filters of each type of network in older versions. These versions used the same filters for all
image sizes, and their `config.yaml` did not have the field `filters`."""
_NOT_COMPARED = ("runs", "name")  # fields that name the folder of the run


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a run as a dictionary from the names of fields to their values.

    The first key is `model`. The value of `model` is the kind of model, such as `"vae"`.
    """
    fields: dict[str, Any] = {"model": kind_of(config)}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, pathlib.Path):
            value = str(value)
        if isinstance(value, tuple):
            value = list(value)
        fields[name] = value
    return fields


def to_yaml(config: RunConfig) -> str:
    """Convert the settings of a run to the text of `config.yaml`.

    Args:
        config: The settings of a run, for instance `GANConfig()`.

    Example:

    >>> from keras_gen.runs.recipes import GANConfig
    >>> to_yaml(GANConfig()).splitlines()[:2]
    ['model: gan', 'data: mnist_mini']
    """
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def from_yaml(text: str, source: object) -> RunConfig:
    """Convert the text of a `config.yaml` to the settings of a run.

    If a field is missing, the setting has its default value. The field `filters` is an exception,
    because files of older versions do not have this field. If it is missing, the networks for
    images have the filters that those versions used. If a field was renamed after version 0.1.0,
    its old name is also accepted.

    Args:
        text: Content of the file.
        source: Name of the file, which is shown in error messages.

    Raises:
        ValueError: If the text is not valid YAML. If the field `model` is missing, or names an
            unknown kind of model. If another field is unknown or has an invalid value. The message
            then names this field. Also if each field is valid, but their combination is not.

    Example:

    >>> from_yaml("model: gan\\nepochs: 3", source="config.yaml").epochs
    3
    """
    fields = _parse(text, source)
    recipe = RECIPES[_kind(fields, source)]
    del fields["model"]
    arguments = {
        name: as_arguments({_RENAMED.get(name, name): value}) for name, value in fields.items()
    }
    values = _parse_arguments(recipe.config, [*itertools.chain(*arguments.values())])
    if values is not None:
        config = recipe.config(**values)
        if isinstance(config, NetworkConfig) and "filters" not in fields:
            return dataclasses.replace(config, filters=_FORMER_FILTERS.get(config.network, ()))
        return config
    for name, argument in arguments.items():
        if _parse_arguments(recipe.config, argument) is None:
            raise ValueError(
                f"Each field of {source} must be a field of {recipe.config.__name__}, and must "
                f"have a valid value. Received: {name}: {fields[name]!r}. Correct the name or the "
                "value in the file."
            )
    raise ValueError(
        f"The fields of {source} must be valid in combination. Each single field is valid, but "
        f"all of them together are not. Received: {fields}. Correct the file."
    )


def check_kind(text: str, source: object) -> None:
    """Raise a `ValueError` if `config.yaml` names a kind of model that is not registered.

    The kinds of keras_gen are registered. `keras_gen.runs.register` registers other kinds. The
    function also raises a `ValueError` if the text is not valid YAML, or has no field `model`.

    Args:
        text: Content of the file.
        source: Name of the file, which is shown in error messages.
    """
    _kind(_parse(text, source), source)


def first_difference(saved: RunConfig, config: RunConfig) -> tuple[str, Any, Any] | None:
    """Find the first field in which two configurations differ.

    The fields `runs` and `name` are not compared, because they do not influence the training. They
    only determine the path of the run's folder and the name of the model.

    Returns:
        `(field, value in saved, value in config)`, or None if there is no difference. If one
        configuration is for a VAE and the other for a GAN, for instance, `field` is `"model"`.
    """
    old = to_dict(saved)
    new = to_dict(config)
    for name in old:
        if name not in _NOT_COMPARED and old[name] != new[name]:
            return name, old[name], new[name]
    return None


def _parse(text: str, source: object) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source} must be a YAML file. Reading the file failed: {reason}. Correct the file."
        ) from error
    if not isinstance(fields, dict) or "model" not in fields:
        raise ValueError(
            f"{source} must contain `model: KIND`, where KIND is one of {', '.join(RECIPES)}. "
            f"Received: {str(fields)[:40]!r}."
        )
    return fields


def _kind(fields: dict[str, Any], source: object) -> str:
    kind = fields["model"]
    if kind not in RECIPES:
        raise ValueError(
            f"`model` in {source} must be a registered kind: {', '.join(RECIPES)}. "
            f"Received: model: {kind}. If it is a kind of your own, first import the file that "
            "registers it with `keras_gen.runs.register`."
        )
    return kind


def as_arguments(fields: Mapping[str, Any]) -> list[str]:
    """Convert fields of a configuration to the command-line arguments that set these fields.

    Example:

    >>> as_arguments({"flip": True, "image_size": (64, 32)})
    ['--flip', '--image-size', '64', '32']
    """
    arguments = []
    for name, value in fields.items():
        flag = str(name).replace("_", "-")  # in YAML, a name can be a number
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, list | tuple) else [value]
            arguments += [f"--{flag}", *map(str, values)]
    return arguments


def _parse_arguments(config: type[RunConfig], arguments: list[str]) -> dict[str, Any] | None:
    """Parse command-line arguments, and return the values that they give to fields of `config`.

    The result is `{field: value}`. If an argument is invalid, the function returns None.
    """
    types = typing.get_type_hints(config, include_extras=True)
    fields = {field.name: types[field.name] for field in dataclasses.fields(config)}
    make_type: Any = typing.TypedDict  # mypy does not accept fields that are known only at run time
    values = make_type("values", fields, total=False)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(values, args=arguments, console_outputs=False)
    except SystemExit:
        return None
