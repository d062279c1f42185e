"""The report of a training run: one HTML page, made from the files in the folder of the run."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import pathlib
import shlex
import urllib.parse
from collections.abc import Iterator
from typing import Any

import yaml

from keras_gen._files import PathLike, atomic_write
from keras_gen.evaluation import format_number
from keras_gen.evaluation.figures import curves
from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import RECIPES, RunConfig, kind_of

_TEMPLATE = pathlib.Path(__file__).parent / "report.html.jinja"
_SHOWN_ROWS = 10  # number of generated rows of a table
_CAPTIONS = {  # name of a figure: (CSS class, caption). The class `pixels` enlarges images.
    "samples": ("pixels", "Samples"),
    "reconstructions": ("pixels", "Rows of test images, each followed by a row of reconstructions"),
    "traversals": (
        "pixels",
        "Traversals: each row varies one latent from its 1st to its 99th percentile. The other "
        "latents stay at their means",
    ),
    "interpolations": ("pixels", "Interpolations: each row goes from one latent vector to another"),
    "latents": (
        "",
        "Latents of the test examples in two dimensions, computed by t-SNE if there are more than "
        "two latents. Near points have similar latents. Distances between groups mean little",
    ),
    "anomalies": (
        "wide pixels",
        "Test images with the largest anomaly scores, the largest on the left. Below each image is "
        "its reconstruction, and then its heat map, in which brighter pixels add more to the score",
    ),
    "anomalous_rows": (
        "wide",
        "Test rows with the largest anomaly scores. A bar shows how much the entry of a column "
        "adds to the score, minus the median of the column",
    ),
    "columns": ("wide", "Columns of the table: training rows and generated rows"),
    "associations": (
        "wide",
        "Associations between columns: Pearson correlation of numbers, Cramér's V of categories, "
        "and correlation ratio of numbers and categories. The last matrix should be white",
    ),
}


def write_report(run: PathLike) -> pathlib.Path:
    """Write `report.html` into the folder of a training run.

    The page shows the configuration, the metrics, the figures, the scores of `evaluate` and the
    result of `audit`. The function reads this content from files in the folder. If a file does not
    exist, its section is omitted. The page needs no other file and no network access.

    Args:
        run: Folder of the training run, such as `runs/vae`.

    Returns:
        Path of the page.

    Raises:
        ValueError: If the folder contains no run, or if the kind of model is not registered.
    """
    import jinja2

    folder = RunFolder(run)
    config = folder.read_config()
    evaluation = _read_json(folder.evaluation_file)
    html = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = html.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=config.name,
        subtitle=subtitle(config),
        folder=folder.path,
        format_number=format_number,
        scores=evaluation.get("scores"),
        sentences=_lines(evaluation.get("words", [])),
        figures=list(_figures(folder)),
        rows=_generated_rows(folder),
        audit=_read_json(folder.audit_file).get("words"),
        correlations=_image_source(folder.correlations_file),
        curves=_curves(folder),
        serving=_serving_commands(folder, config),
        config=folder.config_file.read_text("utf-8").strip(),
        environment=_environment(folder.environment_file),
    )
    with atomic_write(folder.report_file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return folder.report_file


def subtitle(config: RunConfig) -> str:
    """Return one sentence that names the kind of model, the data and the number of epochs.

    Args:
        config: The settings of a training run.

    Example:

    >>> from keras_gen.runs.recipes import VAEConfig
    >>> subtitle(VAEConfig(epochs=5))
    'A variational autoencoder, trained on mnist_mini for 5 epochs.'
    """
    title = RECIPES[kind_of(config)].title
    return f"{title}, trained on {config.data} for {config.epochs} epochs."


def _generated_rows(folder: RunFolder) -> list[list[str]]:
    """Return the names of the columns, followed by the first generated rows of a table.

    If the run has generated no rows of a table, return an empty list.
    """
    path = folder.samples_file(suffix=".csv")
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [*itertools.islice(csv.reader(file), 1 + _SHOWN_ROWS)]


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _lines(texts: list[str]) -> list[str]:
    return [line for text in texts for line in text.split("\n")]


def _figures(folder: RunFolder) -> Iterator[dict[str, str | None]]:
    """Yield a dictionary with `source`, `css_class` and `caption` for each existing figure."""
    figures = folder.figures()
    for name, (css_class, caption) in _CAPTIONS.items():
        if name in figures:
            source = _image_source(figures[name])
            yield {"source": source, "css_class": css_class, "caption": caption}


def _image_source(path: pathlib.Path) -> str | None:
    """Return a PNG file as a URL for an HTML `img`, or None if the file is missing."""
    return _data_url(path.read_bytes(), "png") if path.is_file() else None


def _data_url(content: bytes, image_type: str) -> str:
    return f"data:image/{image_type};base64,{base64.b64encode(content).decode()}"


def _curves(folder: RunFolder) -> dict[str, str]:
    """Return a dictionary from the name of each metric to its chart over the epochs.

    A chart is an SVG image in a `data:` URL, for the HTML element `img`. A metric that is constant
    over all epochs has no chart. If the run has fewer than two epochs, the dictionary is empty.
    """
    rows = folder.read_metrics()
    if len(rows) < 2:
        return {}
    history = {name: [float(row[name]) for row in rows] for name in rows[0]}
    charts = curves(history)
    return {name: _data_url(chart.encode(), "svg+xml") for name, chart in charts.items()}


def _environment(path: pathlib.Path) -> str | None:
    """Return one sentence with the time, the versions and the devices of the run's last start.

    If the file `environment.yaml` does not exist, the result is None.
    """
    if not path.is_file():
        return None
    start = yaml.safe_load(path.read_text("utf-8"))[-1]
    versions = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
    devices = ", ".join(start["devices"])
    return (
        f"Started {start['started']} with {versions}, Python {start['python']}, on "
        f"{start['platform']} ({devices})."
    )


def _serving_commands(folder: RunFolder, config: RunConfig) -> str:
    """Return shell commands that export the model, start TensorFlow Serving and request samples."""
    name = config.name
    inputs = {"seed": [0, 1, 2]}
    if config.needs_labels:
        inputs["condition"] = [0, 0, 0]  # a label that each conditional model has
    request = json.dumps({"signature_name": "generate", "inputs": inputs})
    start = "" if config.savedmodels.is_absolute() else "$PWD/"
    volume = f"{start}{config.savedmodels}/{name}:/models/{name}"
    return "\n".join(
        [
            f"keras-gen export {shlex.quote(str(folder.path))}",
            f'docker run -p 8501:8501 -v "{volume}" '
            f"-e MODEL_NAME={shlex.quote(name)} tensorflow/serving",
            f"curl -d '{request}' "
            f"http://localhost:8501/v1/models/{urllib.parse.quote(name)}:predict",
        ]
    )
