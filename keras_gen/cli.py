"""The command line: arguments → configuration → one call. TensorFlow is loaded once a command is chosen."""

import dataclasses
import difflib
import importlib.util
import itertools
import os
import pathlib
import platform
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import tyro

from keras_gen._versions import versions
from keras_gen.runs import config
from keras_gen.runs.config import AutoencoderConfig, GANConfig, VAEConfig

EXAMPLES = {
    "": ("keras-gen train vae", "keras-gen evaluate runs/vae", "keras-gen export runs/vae"),
    "train": (
        "keras-gen train vae",
        "keras-gen train gan --dry-run",
        "keras-gen train --resume runs/vae",
    ),
    "autoencoder": (
        "keras-gen train autoencoder",
        "keras-gen train autoencoder --data images/ --network conv --name photos",
        "keras-gen train autoencoder --data table.csv --loss mse --contractive 0.1",
    ),
    "vae": (
        "keras-gen train vae --posterior full --prior mixture --prior-components 10",
        "keras-gen train vae --conditional --prior conditional",
        "keras-gen train vae --data fashion_mnist --objective iwae --num-samples 5",
    ),
    "gan": (
        "keras-gen train gan --conditional --ema-momentum 0.999",
        "keras-gen train gan --loss hinge --spectral-normalization --discriminator-steps 2",
        "keras-gen train gan --loss wasserstein --penalties gradient_penalty",
    ),
    "sample": (
        "keras-gen sample runs/vae",
        "keras-gen sample runs/vae --num-samples 1000 --seed 7 --output samples.npy",
    ),
    "evaluate": ("keras-gen evaluate runs/vae", "keras-gen evaluate runs/vae --num-samples 5000"),
    "explore": ("keras-gen explore runs/vae", "keras-gen explore runs/vae --port 8000 --show"),
    "audit": ("keras-gen audit runs/vae", "keras-gen audit runs/vae --num-seeds 5 --epochs 20"),
    "export": (
        "keras-gen export runs/vae",
        "keras-gen export runs/vae --base /models/digits --png",
    ),
    "verify": ("keras-gen verify savedmodels/vae/1",),
}
"""What the help of each subcommand ends with; "" is that of all."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model on the embedded digits or your data."""

    config: (
        Annotated[AutoencoderConfig, tyro.conf.subcommand("autoencoder")]
        | Annotated[VAEConfig, tyro.conf.subcommand("vae")]
        | Annotated[GANConfig, tyro.conf.subcommand("gan")]
        | Annotated[
            None, tyro.conf.subcommand("resumed", description="What the run of --resume is.")
        ]
    ) = None
    resume: pathlib.Path | None = None
    """Folder of a run that was stopped, to go on from its newest checkpoint."""
    dry_run: bool = False
    """Say what would be done: configuration, parameters, time of a step; leave nothing."""

    def __call__(self) -> None:
        """Train, and say where the run is."""
        if self.config is None and self.resume is None:
            raise ValueError(
                "Expected a model: keras-gen train autoencoder, vae or gan; or keras-gen train --resume RUN."
            )

        from keras_gen.runs import train as run

        if self.dry_run:
            print(run.describe(self.config or config.read(self.resume)))  # type: ignore[arg-type]  # one of both is there
        elif self.resume:
            run.resume(self.resume, self.config)
        elif self.config:
            run.train(self.config)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples from a trained model."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    num_samples: int = 100
    """How many samples to draw."""
    seed: int = 0
    """Seed of the samples."""
    output: pathlib.Path | None = None
    """File to write, .png or .npy; samples.png in the run's folder if left out."""

    def __call__(self) -> None:
        """Write the samples, and say where."""
        from keras_gen.runs.evaluate import sample

        print(sample(self.run, self.num_samples, self.seed, self.output))


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a trained model: scores in a table, pictures of its latents, and a report on one page."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    num_samples: int = 500
    """Draws for the likelihood of each test example, of a VAE; 5000 for a number to publish."""
    seed: int = 0
    """Seed of draws and samples."""

    def __call__(self) -> None:
        """Print the table; evaluation.json, pictures and report.html are left in the run's folder."""
        from keras_gen.runs.evaluate import evaluate

        print(evaluate(self.run, self.num_samples, self.seed))
        print(f"\nThe report is {self.run / 'report.html'}.")


@dataclasses.dataclass(frozen=True)
class Explore:
    """Explore a trained model of images in the browser: move its latents, draw what it judges."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    port: int = 8080
    """Port of the page, on 127.0.0.1 alone."""
    show: tyro.conf.FlagCreatePairsOff[bool] = False
    """Open the page in the browser."""

    def __call__(self) -> None:
        """Serve the page until Ctrl-C."""
        if importlib.util.find_spec("nicegui") is None:
            raise ValueError(
                "Expected NiceGUI, which makes the page. Received: none. Install it: pip install 'keras_gen[explore]'"
            )
        _check_port(self.port)

        from keras_gen.explore.page import explore

        explore(self.run, self.port, self.show)


@dataclasses.dataclass(frozen=True)
class Audit:
    """Ask whether independent latents were adequate for a trained VAE."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run of a VAE with a diagonal posterior, such as runs/vae."""
    epochs: int = 10
    """Further passes over the training data, with a diagonal and with a full covariance."""
    num_seeds: int = 3
    """Pairs of trainings."""
    images: int = 100
    """Test images whose posteriors are refined one by one."""
    num_samples: int = 200
    """Draws for the likelihood of each test image."""

    def __call__(self) -> None:
        """Print the verdict; audit.json and correlations.png are left in the run's folder."""
        from keras_gen.runs.evaluate import audit

        print(audit(self.run, self.epochs, self.num_seeds, self.images, self.num_samples))


@dataclasses.dataclass(frozen=True)
class Export:
    """Export a trained model as the next version of a SavedModel."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    base: pathlib.Path | None = None
    """Folder of the model's versions; where the run put its own if left out."""
    png: bool = False
    """Offer each signature also with images as PNG, under its name with _bytes."""

    def __call__(self) -> None:
        """Export, and say where."""
        from keras_gen.runs.evaluate import export

        print(export(self.run, self.base, self.png))


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check a published SavedModel: is it whole, and does each signature answer as the Keras model did?"""

    savedmodel: tyro.conf.Positional[pathlib.Path]
    """Folder of the version, such as savedmodels/vae/1."""

    def __call__(self) -> None:
        """Print a table of the signatures; what is wrong goes to stderr, with exit code 1."""
        from keras_gen.serving import verify

        found = verify(self.savedmodel)
        if found.signatures:
            print(found)
        for problem in found.problems:
            print(f"keras-gen: {self.savedmodel}: {problem}", file=sys.stderr)
        if found.problems:
            sys.exit(1)


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Explore, tyro.conf.subcommand("explore")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """All that is typed after `keras-gen`."""

    command: Command
    debug: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show where in the code an error came from."""
    version: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the versions of keras_gen and of what it stands on."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command that `args`, or `sys.argv`, name, and exit with a code that says how it ended.

    0: it is done. 1: training or writing failed. 2: a mistake of the caller. 130: stopped by Ctrl-C. 143: stopped by SIGTERM. Of an
    error there is one line on stderr; `--debug` puts its traceback before it.
    """
    args = sys.argv[1:] if args is None else list(args)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    warnings.formatwarning = lambda message, *_, **__: f"keras-gen: warning: {message}\n"
    # tyro looks at stdout alone, though it writes errors to stderr
    tyro._experimental_options["ansi_codes"] = sys.stderr.isatty() and not os.environ.get(
        "NO_COLOR"
    )
    try:
        if "--version" in args:  # tyro would ask for a command
            print(_versions())
            return
        command = _parse(args).command
        if isinstance(command, Train) and command.resume:
            _check_folder(command.resume, "config.yaml", "a run")
            if command.config:  # flags that are not given are as they were
                saved = dataclasses.replace(command, config=config.read(command.resume))
                if type(saved.config) is type(command.config):
                    command = _parse(args, default=CommandLine(saved)).command
        if hasattr(command, "run"):
            _check_folder(command.run, "model.keras", "a finished run")
        command()
    except SystemExit as error:
        _say(*getattr(error, "__notes__", ()))
        raise
    except KeyboardInterrupt as error:
        _say(str(error) or "stopped", *getattr(error, "__notes__", ()))
        sys.exit(130)
    except Exception as error:
        if "--debug" in args:
            traceback.print_exc()
        if isinstance(error, ValueError) or _is_failure(error):
            _say(f"error: {error}", *getattr(error, "__notes__", ()))
        else:
            _say(
                f"error: {type(error).__name__}: {error}",
                "This was not foreseen. With --debug it shows where in the code.",
            )
        sys.exit(2 if isinstance(error, ValueError) else 1)


def _say(*lines):
    for line in lines:
        print(f"keras-gen: {line}", file=sys.stderr)


def _versions():
    return "\n".join(
        f"{name} {version}"
        for name, version in {**versions(), "python": platform.python_version()}.items()
    )


def _check_folder(folder, file, what):
    """Refuse a folder without `file`, before TensorFlow is loaded, and name one that may have been meant."""
    if not (folder / file).is_file():
        found = itertools.chain(
            folder.parent.parent.glob(f"*/*/{file}"), folder.parent.glob(f"*/{file}")
        )
        folders = {path.parent.name: path.parent for path in found}
        meant = "".join(
            f". Did you mean {folders[name]}?"
            for name in difflib.get_close_matches(folder.name, folders, n=1)
        )
        raise ValueError(
            f"Expected the folder of {what}, with {file} in it. Received: {folder}{meant}"
        )


def _check_port(port):
    """Refuse a port that cannot be listened at, before TensorFlow is loaded."""
    try:
        with socket.socket() as listener:
            # as the server has it, or one that ended stays for a minute
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Expected a port that is free. Received: {port} ({error}). Take another with --port."
        ) from None


def _is_failure(error):
    """Whether an exception is of the machine or the training, in words meant for the user, rather than of this program."""
    if "tensorflow" not in sys.modules:  # perhaps because it cannot be imported
        return isinstance(error, OSError)

    import tensorflow as tf

    from keras_gen.fitting import CheckpointError, NonFiniteError
    from keras_gen.serving import PublishError

    return isinstance(
        error,
        (OSError, tf.errors.ResourceExhaustedError, CheckpointError, NonFiniteError, PublishError),
    )


def _parse(args, **kwargs):
    try:
        return tyro.cli(
            CommandLine,
            args=args,
            prog="keras-gen",
            description="Regularized autoencoders, variational autoencoders and GANs.",
            config=(
                tyro.conf.OmitSubcommandPrefixes,
                tyro.conf.OmitArgPrefixes,
                tyro.conf.CascadeSubcommandArgs,
            ),
            **kwargs,
        )
    except SystemExit as stopped:
        if (
            stopped.code == 2
        ):  # tyro has named the flags and choices that are near, but no subcommand
            words = itertools.takewhile(
                lambda word: not word.startswith("-"), (word for word in args if word != "--debug")
            )
            for word in (word for word in words if word not in EXAMPLES):
                for name in difflib.get_close_matches(word, EXAMPLES, n=1):
                    stopped.add_note(f"Did you mean {name}?")
        elif {"-h", "--help"} & set(args):
            command = next((word for word in reversed(args) if word in EXAMPLES), "")
            print("Examples:", *EXAMPLES[command], sep="\n  ")
        raise
