"""The report of a run: one page, with everything in it, from what lies in the run's folder."""

import base64
import csv
import json
import pathlib
from typing import Any

import yaml

from keras_gen._files import PathLike, atomic_write
from keras_gen.evaluation.figures import curves
from keras_gen.evaluation.summary import shown

_TEMPLATE = pathlib.Path(__file__).parent / "report.html.jinja"
_KINDS = {
    "autoencoder": "A regularized autoencoder",
    "vae": "A variational autoencoder",
    "gan": "A generative adversarial network",
}
_PICTURES = {  # the last of its kind by name, whether its pixels are to be seen, and what it shows
    "samples-*.png": ("pixels", "Samples"),
    "reconstructions-*.png": ("pixels", "Test images, and their reconstructions below"),
    "traversals.png": (
        "pixels",
        "Traversals: each row one latent, from its 1st to its 99th percentile, the others at their means",
    ),
    "interpolations.png": ("pixels", "Interpolations: each row from one code to another"),
    "codes.png": (
        "",
        "A map of the codes: t-SNE, unless they are two numbers; neighbours are alike, distances of groups mean little",
    ),
}


def write_report(run: PathLike) -> pathlib.Path:
    """Write `report.html` into the folder of a run, from what is there: configuration, metrics, pictures, evaluation, audit.

    The page has everything in it and asks for nothing from elsewhere.

    Args:
        run: Folder of the run.

    Returns:
        Path of the page.
    """
    import jinja2

    folder = pathlib.Path(run)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    evaluation, audit = (_json(folder / f"{name}.json") for name in ("evaluation", "audit"))
    environment = _environment(folder / "environment.yaml")
    html = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = html.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=config["name"],
        subtitle=describe(config),
        folder=folder,
        shown=shown,
        scores=evaluation.get("scores"),
        words=[line for words in evaluation.get("words", []) for line in words.split("\n")],
        pictures=list(_pictures(folder)),
        audit=audit.get("words"),
        correlations=_source(folder / "correlations.png"),
        curves=_curves(folder / "metrics.csv"),
        serving=_serving(folder, config),
        config=yaml.safe_dump(config, sort_keys=False).strip(),
        environment=environment,
    )
    with atomic_write(folder / "report.html") as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return folder / "report.html"


def describe(config: dict[str, Any]) -> str:
    """One line on a run, from what its `config.yaml` holds."""
    return f"{_KINDS[config['model']]}, trained on {config['data']} for {config['epochs']} epochs."


def _json(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def _pictures(folder):
    """The pictures that are there, each with its source, how it is shown, and its caption."""
    for pattern, (kind, caption) in _PICTURES.items():
        for path in sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))[
            -1:
        ]:  # the last of numbered ones
            yield {"source": _source(path), "kind": kind, "caption": caption}


def _source(path):
    """A picture as the `src` of an `img`; None if it is not there."""
    return _data(path.read_bytes(), "png") if path.is_file() else None


def _data(content, kind):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _curves(path):
    """The charts of metrics.csv by name, as sources."""
    if not path.is_file():
        return {}
    with path.open() as file:
        rows = list(csv.DictReader(file))
    history = (
        {name: [float(row[name]) for row in rows] for name in rows[0]} if len(rows) > 1 else {}
    )
    return {name: _data(chart.encode(), "svg+xml") for name, chart in curves(history).items()}


def _environment(path):
    """One line on the last start of the run."""
    if not path.is_file():
        return None
    last = yaml.safe_load(path.read_text())[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    return f"Started {last['started']} with {versions}, Python {last['python']}, on {last['platform']} ({', '.join(last['devices'])})."


def _serving(folder, config):
    """The commands that publish the model and ask it for samples."""
    name = config["name"]
    inputs = '"seed": [0, 1, 2]'
    if config.get("conditional") or config.get("prior") == "conditional":
        inputs += ', "condition": [0, 1, 2]'
    return "\n".join(
        [
            f"keras-gen export {folder}",
            f'docker run -p 8501:8501 -v "$PWD/{config["savedmodels"]}/{name}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving',
            f'curl -d \'{{"signature_name": "generate", "inputs": {{{inputs}}}}}\' http://localhost:8501/v1/models/{name}:predict',
        ]
    )
