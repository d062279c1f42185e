"""The model card that travels with a published model."""

import csv
import datetime
import inspect
import pathlib
import platform
from typing import Any

import yaml

from keras_gen._files import PathLike
from keras_gen._versions import versions
from keras_gen.models.base import GenerativeModel
from keras_gen.serving.warm_up import Exchanges

CARD = "assets.extra/MODEL_CARD.md"


def write_card(
    model: GenerativeModel,
    folder: PathLike,
    name: str,
    version: str,
    exchanges: Exchanges,
    run: PathLike | None = None,
) -> None:
    """Write what a model is, how it is called and what it was trained with.

    Args:
        model: The model that was exported.
        folder: The SavedModel.
        name, version: Under which it is served.
        exchanges: Requests and answers of its signatures, as `write_records` returns them.
        run: Folder of its training run, if there is one.
    """
    path = pathlib.Path(folder) / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text(_card(model, name, version, exchanges, run))


def _card(model, name, version, exchanges, run):
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    own, *stack = (f"{package} {version}" for package, version in versions().items())
    signatures = "\n".join(
        f"| `{signature}` | {' | '.join(', '.join(f'`{key}` {_described(value)}' for key, value in side.items()) for side in sides)} |"
        for signature, sides in exchanges.items()
    )
    parts = yaml.safe_dump(_parts(model), sort_keys=False).strip()
    text = f"""# {name}, version {version}

{(inspect.getdoc(type(model)) or type(model).__name__).splitlines()[0]}

Published {today} by {own} ({", ".join(stack)}, Python {platform.python_version()}).

## Signatures

| signature | inputs | outputs |
|---|---|---|
{signatures}

A batch may have any number of rows, none included. `generate` gives the same row for the same `seed`, whatever else is asked for.
`keras-gen verify` compares all of them with the answers of the Keras model.

    curl -d '{{"inputs": {{"seed": [0, 1, 2]}}, "signature_name": "generate"}}' http://localhost:8501/v1/models/{name}:predict

## Model

```yaml
{parts}
```
"""
    if "generate" not in exchanges:
        text = text.replace(text[text.index("    curl") : text.index("## Model")], "")
    if run:
        text += _training(pathlib.Path(run))
    return (
        text
        + "\n## Limits\n\nA SavedModel is a program: run it only if you trust whoever made it. Samples are no data.\n"
    )


def _training(run):
    """What a run says of itself, with no more of the machine's paths than their last part."""
    text = ""
    if (run / "config.yaml").is_file():
        config = yaml.safe_load((run / "config.yaml").read_text())
        config = {
            key: pathlib.Path(value).name if str(value).startswith("/") else value
            for key, value in config.items()
        }
        text += (
            f"\n## Training\n\n```yaml\n{yaml.safe_dump(config, sort_keys=False).strip()}\n```\n"
        )
    if (run / "metrics.csv").is_file():
        with (run / "metrics.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1:]
        figures = "".join(
            f"| {key} | {value} |\n" for row in last for key, value in row.items() if value
        )
        text += f"\nAfter the last epoch:\n\n| metric | value |\n|---|---|\n{figures}"
    return text


def _parts(model):
    """The constructor's arguments in a word each."""
    config = model.get_config()
    described = {
        "class": type(model).__name__,
        "parameters": int(model.count_params()),
        "data_shape": list(model.data_shape),
    }
    for argument in config:
        value: Any = getattr(model, argument, None)
        if hasattr(value, "count_params") and hasattr(value, "layers"):
            described[argument] = f"{value.name}, {value.count_params()} parameters"
        elif value is not None and argument not in ("dtype", "name", "trainable"):
            described[argument] = (
                value
                if isinstance(value, (int, float, str))
                else getattr(value, "name", None) or str(value)
            )
    return described


def _described(batch):
    dtype = "string" if batch.dtype == object else batch.dtype.name
    return f"{dtype} [{', '.join(['batch', *map(str, batch.shape[1:])])}]"
