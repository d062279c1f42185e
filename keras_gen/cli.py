"""The command `keras-gen`. Each subcommand checks its arguments, and calls a Python function.

The import of TensorFlow is slow. Therefore a subcommand imports TensorFlow only after it has
checked its arguments.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib.util
import io
import itertools
import os
import pathlib
import platform
import re
import shlex
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TextIO, Union

import tyro

from keras_gen._errors import readable
from keras_gen._startup import import_tensorflow, without_startup_lines
from keras_gen._versions import versions
from keras_gen.runs import RECIPES, RunConfig, RunFolder

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("keras-gen train vae", "keras-gen evaluate runs/vae", "keras-gen export runs/vae"),
    "train": (
        "keras-gen train vae",
        "keras-gen train vae --data penguins",
        "keras-gen train --resume runs/vae",
    ),
    "sample": (
        "keras-gen sample runs/vae",
        "keras-gen sample runs/vae --num-samples 1000 --seed 7 --output samples.npy",
        "keras-gen sample runs/vae --given species=Gentoo sex=male --output rows.csv",
    ),
    "impute": (
        "keras-gen impute runs/vae --data holes.csv --output complete.csv",
        "keras-gen impute runs/vae --data holes.csv --output complete.csv --num-imputations 5",
    ),
    "score": (
        "keras-gen score runs/vae --data new.csv --output scores.csv",
        "keras-gen score runs/vae --data images --output scores.csv --heat-maps heat_maps",
    ),
    "evaluate": (
        "keras-gen evaluate runs/vae",
        "keras-gen evaluate runs/vae --num-samples 5000",
        "keras-gen evaluate runs/photos --extractor extractor.keras",
    ),
    "explore": ("keras-gen explore runs/vae", "keras-gen explore runs/vae --port 8000 --show"),
    "audit": ("keras-gen audit runs/vae", "keras-gen audit runs/vae --num-seeds 5 --epochs 20"),
    "fit-density": (
        "keras-gen fit-density runs/vae --density flow",
        "keras-gen fit-density runs/autoencoder --density mixture --num-components 20",
    ),
    "export": (
        "keras-gen export runs/vae",
        "keras-gen export runs/vae --base /models/digits --png",
    ),
    "verify": ("keras-gen verify savedmodels/vae/1",),
}

_CALLS = {
    "train.resume": "keras-gen train --resume",
    "evaluate.export": "keras-gen export",
}
"""Dictionary from functions of `keras_gen.runs` to the commands that do the same.

Each function and each command has one argument, a path."""

_OTHER_DEFAULTS = """\
The defaults above are for small images in grey. For the defaults for your data, add --dry-run.
"""

_TRANSLATIONS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"first import the file that registers it with `keras_gen\.runs\.register`": (
        "name the file that registers it: `keras-gen --import FILE …`"
    ),
    r"keras\.optimizers\.Adam\(global_clipnorm=1\.0\)": "--clip-norm 1",
    r"\bskip_corrupt=True": "--skip-corrupt",
    r" In Python, `keras_gen\.runs\.for_table\(config\)` sets the values for tables\.": "",
    r"`kinds=\{'?([^':{}]+)'?: '(\w+)'\}`": r"`--kinds \1=\2`",
    r"`kinds=\{'([^':{}]+)': (\[.*?\])\}`": lambda found: _as_order(found[1], found[2]),
    r", or read the table with `missing=\[\.\.\.\]`": "",
    r", leave it empty if it is not known, or pass `unseen='missing'`.*?as missing": (
        ", or leave it empty if it is not known"
    ),
    r"Pass `header=True` if the line contains.*?a row\.": (
        "If the line contains the names of the columns, add a letter to each name. If the line is "
        "a row, write a line with names above it."
    ),
    r"`data_dir`": "`--data-dir`",
    r"`extractor`": "`--extractor`",
    r"`image_size=\(height, width\)`": "`--image-size HEIGHT WIDTH`",
    r"Load the data with `labels=False`\.": "Train a model that needs no labels.",
    r"load the data with `labels=False`\.": "train a model that needs no labels.",
}
"""`{regular expression: replacement}` for Python code in the error messages of keras_gen.

A replacement is a text, or a function that returns it, as for `re.sub`."""


def examples() -> dict[str, tuple[str, ...]]:
    """Return a dictionary with the example commands that each help text shows at its end.

    The keys are the names of the subcommands, the kinds of model such as `vae`, and `""` for
    `keras-gen --help`.
    """
    of_kinds = {kind: recipe.examples for kind, recipe in RECIPES.items()}
    return {**_EXAMPLES, **of_kinds}


# === Subcommands ===


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model on a data set that the package contains, or on your own data.

    The help shows the defaults for small images in grey. Tables and other images have their own.
    """

    # `_train_type` makes a subclass in which `config` is a field with one subcommand per kind.

    config: ClassVar[RunConfig | None] = None
    """The kind of model and its settings."""
    resume: pathlib.Path | None = None
    """Continue the interrupted run in this folder. The kind of model is then not needed."""
    dry_run: bool = False
    """Print the settings, the number of parameters, the needed memory and time. Write no file."""

    def __call__(self, set_defaults: Callable[[Mapping[str, Any]], RunConfig]) -> None:
        """Train, or only describe the training if `dry_run` is True.

        Args:
            set_defaults: Function from a dictionary `{field: default}` to the settings with these
                defaults, in which the flags of the user are kept.
        """
        from keras_gen.runs import train

        config = self.config
        if self.dry_run and self.resume and config is None:
            config = RunFolder(self.resume).read_config()
        if self.dry_run and config is not None:
            print(train.describe(config, None if self.resume else set_defaults))
        elif self.resume:
            train.resume(self.resume, config)
        elif config is not None:
            train.train(config, set_defaults)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Generate samples with a trained model."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    num_samples: int = 100
    """Number of samples."""
    seed: int = 0
    """Seed of the samples."""
    output: pathlib.Path | None = None
    """File: .png, .npy, or .csv, .tsv, .parquet, .xlsx for a table. Default: a file in RUN."""
    given: tuple[str, ...] = ()
    """Entries that each generated row of a table has, NAME=VALUE, such as age=50 smoker=yes."""

    def __call__(self) -> None:
        """Generate samples, write them to a file, and print the path of the file."""
        from keras_gen.runs.evaluate import sample

        print(sample(self.run, self.num_samples, self.seed, self.output, self.given))


@dataclasses.dataclass(frozen=True)
class Impute:
    """Fill in the missing entries of a table with a trained VAE."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run of a VAE of a table, such as runs/vae."""
    data: str
    """Table with missing entries. It has the columns of the training table, in any order."""
    output: pathlib.Path
    """File for the completed table. Entries that are not missing are copied unchanged."""
    num_imputations: int | None = None
    """Write this many tables (OUTPUT-1, …) with sampled entries. Default: one with estimates."""
    num_samples: int = 1000
    """Number of samples of the latents per row. More samples make the estimates more accurate."""
    seed: int = 0
    """Seed of the samples."""

    def __call__(self) -> None:
        """Write the completed table, and print how many entries were filled in."""
        from keras_gen.runs.evaluate import impute

        arguments = (self.num_imputations, self.num_samples, self.seed)
        print(impute(self.run, self.data, self.output, *arguments))


@dataclasses.dataclass(frozen=True)
class Score:
    """Compute an anomaly score for each new example, and write the scores as a table."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run of a VAE or an autoencoder, such as runs/vae."""
    data: str
    """A table, an .npz file with the array x, or a folder of images."""
    output: pathlib.Path
    """File for the scores: .csv, .tsv, .parquet or .xlsx."""
    heat_maps: pathlib.Path | None = None
    """Folder for one PNG file per image, with the image, its reconstruction and its heat map."""

    def __call__(self) -> None:
        """Write the table of scores, and print its path."""
        from keras_gen.runs.evaluate import score

        print(score(self.run, self.data, self.output, self.heat_maps))


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Compute scores of a trained model, plot its latents, and write a report."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    num_samples: int = 250
    """Samples per test example for log p(x) of a VAE. Use at least 5000 for publications."""
    seed: int = 0
    """Seed of all samples."""
    extractor: pathlib.Path | None = None
    """Network (*.keras) that computes features of images. Default: only for 28×28 grey images."""

    def __call__(self) -> None:
        """Print a table of the scores, and write evaluation.json, figures and report.html."""
        from keras_gen.runs.evaluate import evaluate

        print(evaluate(self.run, self.num_samples, self.seed, self.extractor))
        print(f"\nThe report is {RunFolder(self.run).report_file}.")


@dataclasses.dataclass(frozen=True)
class Explore:
    """Explore an image model in the browser: change latents, or score an image that you draw."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    port: int = 8080
    """Port of the page. Only this machine (127.0.0.1) can open the page."""
    show: tyro.conf.FlagCreatePairsOff[bool] = False
    """Open the page in the browser."""

    def check(self) -> None:
        """Raise a `ValueError` if the page cannot be served."""
        if importlib.util.find_spec("nicegui") is None:
            raise ValueError(
                "`keras-gen explore` needs the package nicegui, which is not installed. "
                "Install nicegui: pip install 'keras_gen[explore]'"
            )
        _check_port(self.port)

    def __call__(self) -> None:
        """Serve the page until Ctrl-C."""
        from keras_gen.explore.page import explore

        explore(self.run, self.port, self.show)


@dataclasses.dataclass(frozen=True)
class Audit:
    """Measure how many nats of log p(x) a VAE loses because it assumes independent latents."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run of a VAE with a diagonal posterior, such as runs/vae."""
    epochs: int = 10
    """Number of epochs for which each copy of the VAE is trained further."""
    num_seeds: int = 3
    """Number of seeds. Each seed trains a diagonal and a full-covariance copy of the VAE."""
    images: int = 100
    """Number of test images whose posteriors are optimized one by one."""
    num_samples: int = 200
    """Posterior samples per test image for log p(x)."""

    def __call__(self) -> None:
        """Print the result, and write audit.json and correlations.png."""
        from keras_gen.runs.evaluate import audit

        print(audit(self.run, self.epochs, self.num_seeds, self.images, self.num_samples))


@dataclasses.dataclass(frozen=True)
class FitDensity:
    """Fit a density to the latents of a trained autoencoder or VAE, to generate samples from it."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run of an autoencoder or a VAE, such as runs/vae."""
    density: Literal["mixture", "flow"] = "mixture"
    """mixture: normal distributions. flow: masked autoregressive flow."""
    num_components: int | None = None
    """Number of components of the mixture. Default: the number with the lowest BIC."""

    def __call__(self) -> None:
        """Save the density in the run, and print it."""
        from keras_gen.runs.evaluate import fit_density

        density = fit_density(self.run, self.density, self.num_components)
        number = getattr(density, "fitted_components", None)
        components = "" if number is None else f", {number} components"
        run = shlex.quote(str(self.run))
        print(f"The run contains the density: {density.name}{components}.")
        print(f"`keras-gen evaluate {run}` and `keras-gen export {run}` use it.")


@dataclasses.dataclass(frozen=True)
class Export:
    """Export a trained model as the next version of a SavedModel."""

    run: tyro.conf.Positional[pathlib.Path]
    """Folder of the run, such as runs/vae."""
    base: pathlib.Path | None = None
    """Folder that contains the versions. Default: the folder to which the training exported."""
    png: bool = False
    """For each signature NAME, add a signature NAME_bytes that takes and returns images as PNG."""

    def __call__(self) -> None:
        """Export the model, and print the folder of the new version."""
        from keras_gen.runs.evaluate import export

        print(export(self.run, self.base, self.png))


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check the files of a published SavedModel, and the output of each signature."""

    savedmodel: tyro.conf.Positional[pathlib.Path]
    """Folder of the version, such as savedmodels/vae/1."""

    def __call__(self) -> None:
        """Verify the SavedModel, and print a table of its signatures.

        If the SavedModel has problems, print them to stderr, and exit with code 1.
        """
        from keras_gen.serving import verify

        verification = verify(self.savedmodel)
        if verification.signatures:
            print(verification)
        for problem in verification.problems:
            print(f"keras-gen: {self.savedmodel}: {problem}", file=sys.stderr)
        if verification.problems:
            sys.exit(1)


_COMMANDS = {
    "sample": Sample,
    "impute": Impute,
    "score": Score,
    "evaluate": Evaluate,
    "explore": Explore,
    "audit": Audit,
    "fit-density": FitDensity,
    "export": Export,
    "verify": Verify,
}


@dataclasses.dataclass(frozen=True)
class GlobalFlags:
    """The flags that all subcommands have. `_command_line_type` adds the chosen subcommand."""

    imports: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(name="import", metavar="FILE|MODULE"),
    ] = ()
    """Python file or module to import first. The file can register a kind of model."""
    debug: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the traceback of an error."""
    version: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the versions of keras_gen and of the packages that it uses."""


def _train_type() -> type[Train]:
    """Return a subclass of `Train` that has one subcommand per registered kind of model.

    `Train` is the class of the command `keras-gen train`.
    """
    kinds: Any = Union[  # noqa: UP007  # the types are known only at run time
        tuple(
            Annotated[recipe.config, tyro.conf.subcommand(kind)] for kind, recipe in RECIPES.items()
        )
    ]
    return dataclasses.make_dataclass(
        "Train",
        [("config", kinds, dataclasses.field())],
        bases=(Train,),
        namespace={"__doc__": Train.__doc__, "__module__": __name__},
        frozen=True,
        kw_only=True,
    )


def _command_line_type(args: Sequence[str]) -> type[Any]:
    """Return the dataclass that describes the command line to the parser tyro.

    The dataclass is a subclass of `GlobalFlags`. Its additional field `command` is the subcommand
    that the user chooses.

    Args:
        args: The arguments of the command line. If they contain `--resume RUN` but no kind of
            model, the subcommand `train` needs no kind of model.
    """
    train = Train if _resumes_without_kind(args) else _train_type()
    commands: Any = Union[  # noqa: UP007
        tuple(
            Annotated[command, tyro.conf.subcommand(name)]
            for name, command in {"train": train, **_COMMANDS}.items()
        )
    ]
    return dataclasses.make_dataclass(
        "CommandLine",
        [("command", commands, dataclasses.field())],
        bases=(GlobalFlags,),
        namespace={"__module__": __name__},
        frozen=True,
        kw_only=True,
    )


def _resumes_without_kind(args: Sequence[str]) -> bool:
    """Return whether the arguments contain `--resume RUN` but no kind of model."""
    if not any(argument.partition("=")[0] == "--resume" for argument in args):
        return False
    for before, argument in itertools.pairwise(args):
        if argument in RECIPES and before != "--resume":
            return False
    return True


# === The program ===


def main(args: Sequence[str] | None = None) -> None:
    """Run the command `keras-gen` with the given arguments.

    If an error occurs, the function prints the error message to stderr, and exits with a code above
    0. With `--debug`, it first prints the traceback. The exit codes are:

    - 1: The training failed, a file could not be read or written, the command `keras-gen verify`
      found a problem, or the error is unexpected.
    - 2: An argument or an input file is invalid.
    - 130: The user pressed Ctrl-C.
    - 143: The process received the signal SIGTERM.

    Args:
        args: The arguments. Default: `sys.argv[1:]`.
    """
    args = sys.argv[1:] if args is None else list(args)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console may lack characters, such as ±
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # The parser tyro prints errors to stderr, but its default for colors depends on stdout. Only
    # this private option changes the default.
    tyro._experimental_options["ansi_codes"] = _colors_are_wanted()
    with _warnings_in_one_line():
        try:
            _run(args)
        except SystemExit as error:
            _print_error(*getattr(error, "__notes__", ()))
            raise
        except KeyboardInterrupt as error:
            _print_error(str(error) or "stopped", *getattr(error, "__notes__", ()))
            sys.exit(130)
        except Exception as error:
            if "--debug" in args:
                traceback.print_exc()
            _print_error(*_describe(error), *getattr(error, "__notes__", ()))
            sys.exit(2 if isinstance(error, ValueError) else 1)


def _run(args: list[str]) -> None:
    if "--version" in args:  # the parser tyro would require a subcommand
        print(_versions())
        return
    imports, args = _split_imports(args)
    if imports:
        with without_startup_lines():
            for name in imports:
                _import(name)
    parsed = _parse(args)
    command = parsed.command
    if isinstance(command, Train) and command.resume:
        RunFolder(command.resume).check_exists()
        if command.config is not None:
            command = _parse(args, _with_saved_config(parsed)).command
    if hasattr(command, "run"):
        RunFolder(command.run).check_finished()
    if isinstance(command, Explore):
        command.check()
    import_tensorflow()
    if isinstance(command, Train):
        command(functools.partial(_set_defaults, args, parsed))
    else:
        command()


def _with_saved_config(parsed: Any) -> Any:
    """Put the saved settings of a run into the arguments of `keras-gen train KIND --resume RUN`.

    KIND is a kind of model, and RUN is the folder of an interrupted run. The function `_run` parses
    the command line twice. It uses the result of this function as the defaults of the second
    parsing. So a flag that the user omits keeps its saved value.

    If the saved run has another kind of model than KIND, the function returns `parsed` unchanged.
    `train.resume` later raises an error about the kind.

    Args:
        parsed: The arguments after the first parsing.
    """
    saved = RunFolder(parsed.command.resume).read_config()
    if type(saved) is not type(parsed.command.config):
        return parsed
    command = dataclasses.replace(parsed.command, config=saved)
    return dataclasses.replace(parsed, command=command)


def _set_defaults(args: Sequence[str], parsed: Any, defaults: Mapping[str, Any]) -> RunConfig:
    """Parse the arguments of `keras-gen train KIND` again, with other defaults.

    KIND is a kind of model. Some of its settings have other defaults for a table, and for images in
    colour or above 32×32 pixels. A flag that the user omits gets its value from `defaults`.

    Args:
        args: The arguments of the command line.
        parsed: The arguments after the first parsing.
        defaults: Dictionary from names of fields of the settings to their defaults.
    """
    config = type(parsed.command.config)(**defaults)
    command = dataclasses.replace(parsed.command, config=config)
    return _parse(args, dataclasses.replace(parsed, command=command)).command.config


def _parse(args: Sequence[str], default: Any = None) -> Any:
    """Parse the arguments of the command line.

    If the arguments contain `--help`, example commands are printed below the help text. If an
    argument is wrong, the parser raises `SystemExit`, and the function adds hints to this error.

    Args:
        args: The arguments.
        default: An object with a value for each flag. If the user omits a flag, the flag gets its
            value from this object. Default: the defaults of the dataclasses in this module.
    """
    defaults = {} if default is None else {"default": default}
    try:
        return tyro.cli(
            _command_line_type(args) if default is None else type(default),
            args=args,
            prog="keras-gen",
            description="Regularized autoencoders, variational autoencoders and GANs.",
            config=(
                tyro.conf.OmitSubcommandPrefixes,
                tyro.conf.OmitArgPrefixes,
                tyro.conf.CascadeSubcommandArgs,
            ),
            **defaults,
        )
    except SystemExit as stopped:
        if stopped.code == 2:
            for hint in _hints(args):
                stopped.add_note(hint)
        elif {"-h", "--help"} & set(args):
            by_command = examples()
            command = next((word for word in reversed(args) if word in by_command), "")
            recipe = RECIPES.get(command)
            if recipe is not None and (recipe.image_defaults or recipe.table_defaults):
                print(_OTHER_DEFAULTS)
            if by_command[command]:
                print("Examples:", *by_command[command], sep="\n  ")
        raise


def _hints(args: Sequence[str]) -> Iterator[str]:
    """Yield hints for a user who typed a wrong subcommand, or omitted the kind of model.

    There are no hints about wrong flags, because the parser tyro prints hints about flags itself.
    """
    known = examples()
    words = [word for word in args if word != "--debug"]
    subcommands = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    for word in subcommands:
        if word not in known:
            for match in difflib.get_close_matches(word, known, n=1):
                yield f"Did you mean {match}?"
    if subcommands[:1] == ["train"] and not set(subcommands) & RECIPES.keys():
        yield (
            f"`keras-gen train` needs a kind of model: {', '.join(RECIPES)}. For a kind of your "
            "own, name the file that registers it: `keras-gen --import FILE train KIND`."
        )


# === Imports of the user ===


def _split_imports(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into the values of `--import` and all other arguments."""
    imports = []
    others = []
    remaining = iter(args)
    for argument in remaining:
        if argument.startswith("--import="):
            imports.append(argument.removeprefix("--import="))
        elif argument == "--import":
            value = next(remaining, None)
            if value is None:
                others.append(argument)  # tyro prints the error of the missing value
            else:
                imports.append(value)
        else:
            others.append(argument)
    return imports, others


def _import(name: str) -> None:
    """Import a Python file or a module, once per process."""
    try:
        if name.endswith(".py"):
            _import_file(pathlib.Path(name).resolve())
        else:
            importlib.import_module(name)
    except Exception as error:
        raise ValueError(
            "`--import` must name a Python file (*.py) or a module that can be imported. "
            f"Received: {name}, which raises {type(error).__name__}: {error}"
        ) from error


def _import_file(path: pathlib.Path) -> None:
    # a unique module name, so that the file hides neither an installed module nor another file
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


# === Output ===


def _colors_are_wanted() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print each warning in one line, without the file name and the line number."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        _print_error(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _print_error(*lines: str) -> None:
    for line in lines:
        print(f"keras-gen: {_translate(line)}", file=sys.stderr)


def _translate(message: str) -> str:
    """Replace Python code in a message of keras_gen by the flags and commands of `keras-gen`."""
    message = readable(message)
    for function, command in _CALLS.items():
        call = rf"keras_gen\.runs\.{re.escape(function)}\(((['\"]).*?(?<!\\)\2)\)"
        message = re.sub(call, functools.partial(_as_command, command), message)
    for pattern, replacement in _TRANSLATIONS.items():
        message = re.sub(pattern, replacement, message)
    return message


def _as_command(command: str, call: re.Match[str]) -> str:
    """Return the command that does the same as a Python call with a path.

    For instance, the call `keras_gen.runs.evaluate.export('runs/vae')` becomes the command
    `keras-gen export runs/vae`.

    Args:
        command: The command without the path, such as `keras-gen export`.
        call: The `re.Match` that contains the call. Its first group is the path, as a Python string
            literal such as `'runs/vae'`.
    """
    return f"{command} {shlex.quote(ast.literal_eval(call[1]))}"


def _as_order(name: str, categories: str) -> str:
    """Return the flag that sets the order of the categories of a column.

    For instance, the name `size` and the list `['S', 'M']`, as Python code, become `--kinds
    size=S,M`.
    """
    order = ",".join(map(str, ast.literal_eval(categories)))
    return f"`--kinds {shlex.quote(f'{name}={order}')}`"


def _describe(error: Exception) -> list[str]:
    """Return the lines that are printed for an error."""
    if isinstance(error, ValueError) or _is_failure(error):
        return [f"error: {error}"]
    return [
        f"error: {type(error).__name__}: {error}",
        "This error is unexpected. Add --debug to the command to print the traceback.",
    ]


def _is_failure(error: Exception) -> bool:
    """Return whether an error has a known cause, such as a full disk or a NaN in the loss.

    The message of such an error tells the user enough. A traceback is then not necessary.
    """
    if "tensorflow" not in sys.modules:  # for instance because its import failed
        return isinstance(error, OSError)

    import tensorflow as tf

    from keras_gen.fitting import CheckpointError, NonFiniteError
    from keras_gen.serving import PublishError

    failures = (
        OSError,
        tf.errors.ResourceExhaustedError,
        CheckpointError,
        NonFiniteError,
        PublishError,
    )
    return isinstance(error, failures)


def _versions() -> str:
    found = {**versions(), "python": platform.python_version()}
    return "\n".join(f"{name} {version}" for name, version in found.items())


def _check_port(port: int) -> None:
    """Raise a `ValueError` if a server cannot use a port.

    For instance, the port is in use, or the number is not a port number. The check does not need
    TensorFlow. It runs before the slow import of TensorFlow, so that the user sees the error at
    once.
    """
    try:
        with socket.socket() as listener:
            # The server sets this option, too. Without the option, a port just closed seems in use.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"`--port` must be a free port. Received: {port} ({error}). Choose another port."
        ) from None
