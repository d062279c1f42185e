"""The folder of a training run: the names of its files, and functions to read and write them."""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from keras_gen._files import PathLike, atomic_write, folder_lock
from keras_gen.runs import config_file
from keras_gen.runs.recipes import RunConfig

if TYPE_CHECKING:
    from keras_gen.models import GenerativeModel

_CONFIG = "config.yaml"
_MODEL = "model.keras"
_CLASSES = "classes.json"
_FIGURES = {
    "samples": "samples-*.png",
    "reconstructions": "reconstructions-*.png",
    "traversals": "traversals.png",
    "interpolations": "interpolations.png",
    "latents": "codes.png",
    "anomalies": "anomalies.png",
    "anomalous_rows": "anomalous-rows.png",
    "columns": "columns.png",
    "associations": "associations.png",
}


class RunFolder:
    """The folder of a training run.

    This class defines the names of all files of a run. Other modules get the names from this class.
    Only `evaluation.save_latent_figures` repeats the names of the files that it writes.

    Args:
        path: Path of the folder, such as `runs/vae`. The folder does not have to exist.

    Example:

    >>> folder = RunFolder("runs/vae")
    >>> folder.model_file.as_posix()
    'runs/vae/model.keras'
    >>> folder.is_finished
    False
    """

    def __init__(self, path: PathLike) -> None:
        self.path = pathlib.Path(path)

    def __fspath__(self) -> str:
        """Return the path. Functions that expect a path therefore accept a `RunFolder`."""
        return os.fspath(self.path)

    def __repr__(self) -> str:
        """Return the Python code that creates this object."""
        return f"RunFolder({str(self.path)!r})"

    # === Names ===

    @property
    def config_file(self) -> pathlib.Path:
        """Path of the file with the configuration."""
        return self.path / _CONFIG

    @property
    def environment_file(self) -> pathlib.Path:
        """Path of a file that describes the environment at each start of the run.

        The file contains the versions of packages, the devices and the git commit.
        """
        return self.path / "environment.yaml"

    @property
    def metrics_file(self) -> pathlib.Path:
        """Path of the file with the logs of `fit`, one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def model_file(self) -> pathlib.Path:
        """Path of the trained model. The run is finished if and only if this file exists."""
        return self.path / _MODEL

    @property
    def report_file(self) -> pathlib.Path:
        """Path of the report, an HTML page."""
        return self.path / "report.html"

    @property
    def evaluation_file(self) -> pathlib.Path:
        """Path of the file with the scores that `evaluate` computes."""
        return self.path / "evaluation.json"

    @property
    def audit_file(self) -> pathlib.Path:
        """Path of the file with the result of `audit`."""
        return self.path / "audit.json"

    @property
    def columns_file(self) -> pathlib.Path:
        """Path of the figure with the histograms of the columns of a table."""
        return self.path / _FIGURES["columns"]

    @property
    def associations_file(self) -> pathlib.Path:
        """Path of the figure with the associations between the columns of a table."""
        return self.path / _FIGURES["associations"]

    @property
    def anomalies_file(self) -> pathlib.Path:
        """Path of the figure of the test images with the largest anomaly scores."""
        return self.path / _FIGURES["anomalies"]

    @property
    def anomalous_rows_file(self) -> pathlib.Path:
        """For tables: path of the figure that shows the test rows with the largest anomaly scores.

        For images, the attribute `anomalies_file` is used instead.
        """
        return self.path / _FIGURES["anomalous_rows"]

    @property
    def correlations_file(self) -> pathlib.Path:
        """Path of the figure of the correlations that `audit` measures between latents."""
        return self.path / "correlations.png"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Path of the folder with the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Path of the folder that `tensorboard --logdir` reads."""
        return self.path / "tensorboard"

    def samples_file(self, epoch: int | None = None, suffix: str = ".png") -> pathlib.Path:
        """Return the path of a file with generated samples.

        Args:
            epoch: Epoch after which the samples are generated, counted from 1. None for the samples
                of the trained model. Default: None.
            suffix: Suffix of the file. Default: `".png"`.
        """
        number = "" if epoch is None else f"-{epoch:03d}"
        return self.path / f"samples{number}{suffix}"

    def reconstructions_file(self, epoch: int) -> pathlib.Path:
        """Return the path of the reconstructions of an epoch. Epochs are counted from 1."""
        return self.path / f"reconstructions-{epoch:03d}.png"

    def figures(self) -> dict[str, pathlib.Path]:
        """Return the paths of the figures that exist in the folder, as `{name: path}`.

        Possible names are `samples`, `reconstructions`, `traversals`, `interpolations`, `latents`
        and `anomalies`. For tables, `anomalous_rows`, `columns` and `associations` are also
        possible. During training, a run writes `samples` and `reconstructions` several times, each
        time to a new file. For these two names, the result contains the path of the newest file.
        """
        figures = {}
        for name, pattern in _FIGURES.items():
            # from epoch 1000, the number is longer, so sort by length first
            paths = sorted(self.path.glob(pattern), key=lambda path: (len(path.name), path.name))
            if paths:
                figures[name] = paths[-1]
        return figures

    # === A new run ===

    @classmethod
    def numbered(cls, config: RunConfig, number: int) -> RunFolder:
        """Return the folder of the run with the name `config.name` and the number `number`.

        Several runs can have the same name. With the name `vae`, run number 1 has the folder
        `runs/vae`, and run number 2 has the folder `runs/vae-2`.

        Args:
            config: The configuration of the run. It contains the name, and the folder of all runs.
            number: Number of the run, at least 1.
        """
        name = config.name if number == 1 else f"{config.name}-{number}"
        return cls(config.runs / name)

    @classmethod
    def create(cls, config: RunConfig) -> tuple[RunFolder, int]:
        """Create the folder of a new run, and write `config.yaml` into the folder.

        The name of the folder is `config.name`. If this folder exists already, `-2`, `-3`, … is
        appended to the name. If several processes train together, only one of them calls `create`.
        The other processes get the folder from `RunFolder.numbered(config, number)`.

        Args:
            config: The configuration of the run.

        Returns:
            `(folder, number)`. `number` is the number that was appended to the name, or 1 if no
            number was appended.
        """
        for number in itertools.count(1):
            folder = cls.numbered(config, number)
            try:
                folder.path.mkdir(parents=True)
            except FileExistsError:
                continue
            folder.write_config(config)
            return folder, number
        raise AssertionError  # itertools.count never ends

    @contextlib.contextmanager
    def lock(self, wait: bool = False) -> Iterator[None]:
        """Lock the folder against other processes during a `with` block.

        Args:
            wait: Whether to wait until another process releases the lock. Default: False.

        Raises:
            ValueError: If another process has the lock and `wait` is False.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(self.path, wait=wait))
            except BlockingIOError:
                raise ValueError(
                    f"The run must not be in use. Received: {self.path}, which another process is "
                    "training. Wait until that process has ended."
                ) from None
            yield

    # === Configuration ===

    def check_exists(self) -> None:
        """Raise a `ValueError` if the folder contains no run.

        If another folder with a similar name contains a run, the message suggests that other
        folder.
        """
        self._check_file(_CONFIG, "a run")

    def check_finished(self) -> None:
        """Raise a `ValueError` if the folder contains no finished run.

        If the folder contains a run whose training has not ended, the message says how to resume
        it. Otherwise, if another folder with a similar name contains a finished run, the message
        suggests the other folder.
        """
        if (self.path / _CONFIG).is_file() and not (self.path / _MODEL).is_file():
            resume = f"`keras_gen.runs.train.resume({str(self.path)!r})`"
            raise ValueError(
                f"The run must be finished. Received: {self.path}, whose training has not ended. "
                f"{resume} continues the training."
            )
        self._check_file(_MODEL, "a finished run")

    def _check_file(self, name: str, what: str) -> None:
        if (self.path / name).is_file():
            return
        parent = self.path.parent
        similar = {}
        for path in itertools.chain(parent.parent.glob(f"*/*/{name}"), parent.glob(f"*/{name}")):
            similar[path.parent.name] = path.parent
        hint = ""
        for match in difflib.get_close_matches(self.path.name, similar, n=1):
            hint = f". Did you mean {similar[match]}?"
        raise ValueError(f"The folder of {what} must contain {name}. Received: {self.path}{hint}")

    def read_config(self) -> RunConfig:
        """Read `config.yaml`.

        Raises:
            ValueError: If the file does not exist, or is not valid YAML. If the field `model` is
                missing, or names a kind of model that is not registered. If another field is
                unknown or has an invalid value. The message then names this field. Also if each
                field is valid, but their combination is not.
        """
        self.check_exists()
        return config_file.from_yaml(self.config_file.read_text("utf-8"), self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Write `config.yaml`."""
        with atomic_write(self.config_file) as unfinished:
            unfinished.write_text(config_file.to_yaml(config), encoding="utf-8")

    # === Model ===

    @property
    def is_finished(self) -> bool:
        """Whether the training has ended and the trained model is saved."""
        return self.model_file.is_file()

    def load_model(self) -> GenerativeModel:
        """Load the trained model.

        Raises:
            ValueError: If the run is not finished, or if the kind of model is not registered. If
                Keras cannot load the file, for instance because the file is damaged, or because a
                class of the model is not imported.
        """
        self.check_finished()
        if self.config_file.is_file():
            # for a kind that is not registered, this error says more than the error of Keras
            config_file.check_kind(self.config_file.read_text("utf-8"), self.config_file)
        import keras

        try:
            return keras.saving.load_model(self.model_file)
        except Exception as error:  # damaged files raise errors of many classes
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{self.model_file} must be an intact model file, and Keras must know all classes "
                "of the model. If a class is your own, first import the Python file that defines "
                f"it. Loading the file failed: {reason}"
            ) from error

    def save_model(self, model: GenerativeModel) -> None:
        """Save the trained model. A run with a saved model is finished."""
        with atomic_write(self.model_file) as unfinished:
            model.save(unfinished)

    # === Classes ===

    @property
    def classes_file(self) -> pathlib.Path:
        """Path of the JSON file with the list of class names.

        The element with index k is the name of the class that has the label k.
        """
        return self.path / _CLASSES

    def read_classes(self) -> list[str] | None:
        """Return the names of the classes, or None if the run has no file with the names."""
        if not self.classes_file.is_file():
            return None
        names: list[str] = json.loads(self.classes_file.read_text("utf-8"))
        return names

    def write_classes(self, names: Sequence[str]) -> None:
        """Write the names of the classes."""
        with atomic_write(self.classes_file) as unfinished:
            unfinished.write_text(json.dumps([*names], ensure_ascii=False), encoding="utf-8")

    # === Metrics and model card ===

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the rows of `metrics.csv`, one per epoch.

        If the file does not exist, return an empty list.
        """
        if not self.metrics_file.is_file():
            return []
        with self.metrics_file.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def training_card(self) -> str:
        """Return the section of a model card that describes the training, in Markdown.

        The section shows the configuration and the metrics of the last epoch. Absolute paths are
        shortened to their last part, so that the text does not reveal folders of the machine. If
        the folder contains neither a configuration nor metrics, the text is empty.
        """
        text = ""
        if self.config_file.is_file():
            fields = yaml.safe_load(self.config_file.read_text("utf-8"))
            shown = {name: _without_folder(value) for name, value in fields.items()}
            block = yaml.safe_dump(shown, sort_keys=False).strip()
            text += f"## Training\n\n```yaml\n{block}\n```\n"
        for row in self.read_metrics()[-1:]:
            lines = [f"| {name} | {value} |" for name, value in row.items() if value]
            table = "\n".join(["| metric | value |", "|---|---|", *lines])
            text += f"\nAfter the last epoch:\n\n{table}\n"
        return text


def _without_folder(value: Any) -> Any:
    """Return the last part of `value` if `value` is an absolute path, otherwise `value` itself.

    For instance, the result for `/data/images` is `images`.
    """
    return pathlib.Path(value).name if str(value).startswith("/") else value
