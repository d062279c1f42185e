"""The folder of a training run: the names of its files, and how they are read and written."""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from keras_gen._files import PathLike, atomic_write, folder_lock
from keras_gen.runs import config_file
from keras_gen.runs.recipes import RunConfig

if TYPE_CHECKING:
    from keras_gen.models import GenerativeModel

_CONFIG = "config.yaml"
_MODEL = "model.keras"
_FIGURES = {
    "samples": "samples-*.png",
    "reconstructions": "reconstructions-*.png",
    "traversals": "traversals.png",
    "interpolations": "interpolations.png",
    "latents": "codes.png",
}


class RunFolder:
    """The folder of a training run.

    This class knows the name of every file of a run. Other modules ask it for their paths.

    Args:
        path: Path of the folder, such as `runs/vae`. It does not have to exist.

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
        """Return the path, so that a `RunFolder` can stand where a path is expected."""
        return os.fspath(self.path)

    def __repr__(self) -> str:
        """Return the call that makes an equal object."""
        return f"RunFolder({str(self.path)!r})"

    # === Names ===

    @property
    def config_file(self) -> pathlib.Path:
        """The configuration."""
        return self.path / _CONFIG

    @property
    def environment_file(self) -> pathlib.Path:
        """Versions, devices and git commit of each start of the training."""
        return self.path / "environment.yaml"

    @property
    def metrics_file(self) -> pathlib.Path:
        """The logs of `fit`, one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def model_file(self) -> pathlib.Path:
        """The trained model. The run is finished when this file exists."""
        return self.path / _MODEL

    @property
    def report_file(self) -> pathlib.Path:
        """The report, one HTML page."""
        return self.path / "report.html"

    @property
    def evaluation_file(self) -> pathlib.Path:
        """The scores of `evaluate`."""
        return self.path / "evaluation.json"

    @property
    def audit_file(self) -> pathlib.Path:
        """The result of `audit`."""
        return self.path / "audit.json"

    @property
    def correlations_file(self) -> pathlib.Path:
        """The correlations of the latents that `audit` finds, as a figure."""
        return self.path / "correlations.png"

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> pathlib.Path:
        """The folder that `tensorboard --logdir` reads."""
        return self.path / "tensorboard"

    def samples_file(self, epoch: int | None = None, suffix: str = ".png") -> pathlib.Path:
        """Return the file of the samples of an epoch, counted from 1, or of `sample` if None."""
        number = "" if epoch is None else f"-{epoch:03d}"
        return self.path / f"samples{number}{suffix}"

    def reconstructions_file(self, epoch: int) -> pathlib.Path:
        """Return the file of the reconstructions of an epoch, counted from 1."""
        return self.path / f"reconstructions-{epoch:03d}.png"

    def figures(self) -> dict[str, pathlib.Path]:
        """Return the figures that exist, by name; of numbered files only the last.

        The names are `samples`, `reconstructions`, `traversals`, `interpolations` and `latents`.
        """
        figures = {}
        for name, pattern in _FIGURES.items():
            # a longer number is a later epoch
            paths = sorted(self.path.glob(pattern), key=lambda path: (len(path.name), path.name))
            if paths:
                figures[name] = paths[-1]
        return figures

    # === A new run ===

    @classmethod
    def numbered(cls, config: RunConfig, number: int) -> RunFolder:
        """Return the folder of run `number`: `runs/name` for 1, `runs/name-2` for 2, …"""
        name = config.name if number == 1 else f"{config.name}-{number}"
        return cls(config.runs / name)

    @classmethod
    def create(cls, config: RunConfig) -> tuple[RunFolder, int]:
        """Create the folder of a new run, with its `config.yaml`.

        Args:
            config: The configuration of the run.

        Returns:
            `(folder, number)`, where `number` is the first for which there was no folder. Other
            workers call `numbered` with it.
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
        """Lock the folder against other processes.

        Args:
            wait: Whether to wait for another process that has the lock.

        Raises:
            ValueError: If another process has the lock and `wait` is False.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(self.path, wait=wait))
            except BlockingIOError:
                raise ValueError(
                    f"The run must not be in use. Received: {self.path}, which another process is "
                    "training."
                ) from None
            yield

    # === Configuration ===

    def check_exists(self) -> None:
        """Raise a `ValueError` if there is no run in the folder.

        The message names an existing run with a similar name.
        """
        self._check_file(_CONFIG, "a run")

    def check_finished(self) -> None:
        """Raise a `ValueError` if there is no finished run in the folder.

        The message names a finished run with a similar name.
        """
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
            ValueError: If there is no such file, its kind of model is not registered, or a field
                is unknown or has an invalid value. The message names the field.
        """
        self.check_exists()
        return config_file.from_yaml(self.config_file.read_text(), self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Write `config.yaml`."""
        with atomic_write(self.config_file) as unfinished:
            unfinished.write_text(config_file.to_yaml(config))

    # === Model ===

    @property
    def is_finished(self) -> bool:
        """Whether the training ended and its model was saved."""
        return self.model_file.is_file()

    def load_model(self) -> GenerativeModel:
        """Load the trained model.

        Raises:
            ValueError: If the run is not finished, or its kind of model is not registered.
        """
        self.check_finished()
        if self.config_file.is_file():
            # an error here says more than Keras's about an unknown class
            config_file.check_kind(self.config_file.read_text(), self.config_file)
        import keras

        return keras.saving.load_model(self.model_file)

    def save_model(self, model: GenerativeModel) -> None:
        """Save the trained model. After this, the run is finished."""
        with atomic_write(self.model_file) as unfinished:
            model.save(unfinished)

    # === Metrics and model card ===

    def read_metrics(self) -> list[dict[str, str]]:
        """Read `metrics.csv`: one row per epoch, empty if there is no file."""
        if not self.metrics_file.is_file():
            return []
        with self.metrics_file.open(newline="") as file:
            return list(csv.DictReader(file))

    def training_card(self) -> str:
        """Return the training section of a model card as Markdown: configuration, last metrics.

        Of absolute paths, which would reveal the machine, only the last part is shown. The section
        is empty if the folder has neither a configuration nor metrics.
        """
        text = ""
        if self.config_file.is_file():
            fields = yaml.safe_load(self.config_file.read_text())
            shown = {name: _without_folder(value) for name, value in fields.items()}
            block = yaml.safe_dump(shown, sort_keys=False).strip()
            text += f"## Training\n\n```yaml\n{block}\n```\n"
        for row in self.read_metrics()[-1:]:
            lines = [f"| {name} | {value} |" for name, value in row.items() if value]
            table = "\n".join(["| metric | value |", "|---|---|", *lines])
            text += f"\nAfter the last epoch:\n\n{table}\n"
        return text


def _without_folder(value: Any) -> Any:
    """Return the last part of an absolute path, and any other value as it is."""
    return pathlib.Path(value).name if str(value).startswith("/") else value
