"""The command line: arguments → configuration → one call. TensorFlow is loaded once a command is chosen."""

import dataclasses
import os
import pathlib
import sys
from typing import Annotated

import tyro

from keras_gen.training.config import AutoencoderConfig, GANConfig, VAEConfig


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model on the embedded digits or your data."""

    config: (
        Annotated[AutoencoderConfig, tyro.conf.subcommand("autoencoder")]
        | Annotated[VAEConfig, tyro.conf.subcommand("vae")]
        | Annotated[GANConfig, tyro.conf.subcommand("gan")]
    )

    def __call__(self):
        """Train, and say where the run is."""
        from keras_gen.training.run import train

        train(self.config)


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

    def __call__(self):
        """Write the samples, and say where."""
        from keras_gen.training.run import sample

        print(sample(self.run, self.num_samples, self.seed, self.output))


@dataclasses.dataclass(frozen=True)
class Export:
    """Export a trained model as the next version of a SavedModel."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    base: pathlib.Path | None = None
    """Folder of the model's versions; where the run put its own if left out."""
    png: bool = False
    """Offer each signature also with images as PNG, under its name with _bytes."""

    def __call__(self):
        """Export, and say where."""
        from keras_gen.training.run import export

        print(export(self.run, self.base, self.png))


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check a published SavedModel: is it whole, and does each signature answer as the Keras model did?"""

    savedmodel: tyro.conf.Positional[pathlib.Path]
    """Folder of the version, such as savedmodels/vae/1."""

    def __call__(self):
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
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


def main(args=None):
    """Run the command that `args`, or `sys.argv`, name; a mistake in them is one line on stderr and exit code 2."""
    command = tyro.cli(
        Command,
        args=args,
        prog="keras-gen",
        description="Regularized autoencoders, variational autoencoders and GANs.",
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        command()
    except ValueError as error:
        print(f"keras-gen: error: {error}", file=sys.stderr)
        sys.exit(2)
