"""How fast: training steps, batches, start-up, answers and log p(x), each beside its competitors, in one table.

    python benchmarks/speed.py                        # all of it
    python benchmarks/speed.py --rows mlp_vae import  # some rows

Every competitor has a process of its own with the same number of threads. In each round all competitors of a row take their turn, one
at a time, so that what else the machine does meets all alike. The table has the medians of the rounds, and the median over the rounds
of the ratio of ours to each competitor: below 1, ours is quicker. PyTorch (the extra `bench`) and pythae are skipped where they are not
installed. The hand-written and PyTorch trainings must have as many parameters as ours and a loss within a tenth of ours over their
first steps. Writes `benchmarks/results/speed.json`.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile

from competitor import Competitor

RESULT = pathlib.Path(__file__).parent / "results" / "speed.json"
TRAININGS = {
    "mlp_vae": (100, 10),
    "conv_vae": (128, 1),
    "dcgan": (64, 1),
}  # batch size; how often the steps of the settings
SINGLE = "single-threaded operations"
CHECKED_STEPS = 10  # later, two games of the same GAN differ by several percent
HELP = "import sys; sys.argv = ['keras-gen', '--help']; from keras_gen.cli import main; main()"  # as the command itself does
IMPORT = (
    "import time, {}; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
)


@dataclasses.dataclass
class Settings:
    """What is timed."""

    rows: tuple[str, ...] = ()
    """Names of rows; all if left out."""
    rounds: int = 5
    """Rounds."""
    steps: int = 100
    """Training steps and batches a round; ten times as many of the MLP VAE, whose steps are short."""
    steps_per_execution: int = 50
    """Of the second `fit`; the first has 1."""
    images: int = 100
    """Images of a call to generate or encode; five times as many a round have their log p(x) estimated from 5,000 draws."""
    threads: int = 2
    """Threads of each process."""
    output: pathlib.Path = RESULT
    """File to write."""


@dataclasses.dataclass
class Row:
    """What is timed against what."""

    unit: str
    """What takes the milliseconds."""
    competitors: dict[str, Competitor]
    """By name, ours first."""
    ours: int = 1
    """How many of them are ours."""
    amount: int = 1
    """What each is asked for in a round."""
    units: int = 1
    """Units in one of the amount."""
    is_training: bool = False
    """Whether they are to agree in parameters and loss."""


def all_rows(settings, folder):
    """The rows by name; `folder` has what `around_training.prepared` writes."""
    rows = {model: _training(model, settings, folder / "digits.npy") for model in TRAININGS}
    rows["pipeline"] = Row(
        "batch of 128",
        {
            "keras_gen data.load": Competitor("around_training:pipeline", batch_size=128),
            "tf.data from an array": Competitor(
                "around_training:plain_pipeline", batch_size=128, digits=folder / "digits.npy"
            ),
        },
        amount=settings.steps,
    )
    first_step = "import {0}; {0}.{1}('mlp_vae', 100{2})(1)"
    digits = f", {str(folder / 'digits.npy')!r}"
    rows["start_up"] = Row(
        "fresh process to its first step",
        {
            "keras_gen fit": _python(first_step.format("steps_keras_gen", "fit", "")),
            "hand-written loop": _python(first_step.format("steps_plain", "loop", "")),
            "PyTorch": _python(first_step.format("steps_torch", "loop", digits), needs="torch"),
        },
    )
    imports = {
        "keras_gen after tensorflow": ("tensorflow", "keras_gen"),
        "tensorflow itself": ("sys", "tensorflow"),
    }
    rows["import"] = Row(
        "import",
        {
            name: _python(IMPORT.format(*modules), prints_seconds=True)
            for name, modules in imports.items()
        },
    )
    rows["help"] = Row(
        "call",
        {"keras-gen --help": _python(HELP), "python -c 'import tyro'": _python("import tyro")},
    )
    for signature in ("generate", "encode"):
        for images in (1, settings.images):
            sources = {
                "Keras": "keras_model",
                "SavedModel in Python": "saved_model",
                "SavedModel in C++": "cpp_loader",
            }
            arguments = {"folder": folder, "signature": signature, "images": images}
            competitors = {
                name: Competitor(f"around_training:{maker}", **arguments)
                for name, maker in sources.items()
            }
            rows[f"{signature}_{images}"] = Row(
                f"image, {images} a call", competitors, amount=50, units=images
            )
    names = {"keras_gen log_likelihood": "likelihood", "its decoder's products": "products"}
    competitors = {
        name: Competitor("likelihood:work", name=work, images=5 * settings.images, num_samples=5000)
        for name, work in names.items()
    }
    rows["likelihood"] = Row("image", competitors, units=5 * settings.images)
    return rows


def _training(model, settings, digits):
    batch_size, times = TRAININGS[model]
    several = settings.steps_per_execution
    made_by = {
        "keras_gen fit": ("steps_keras_gen:fit", {}),
        f"keras_gen fit, {several} steps per execution": (
            "steps_keras_gen:fit",
            {"steps_per_execution": several},
        ),
        f"keras_gen fit, {several} steps, {SINGLE}": (
            "steps_keras_gen:fit",
            {"steps_per_execution": several},
        ),
        "hand-written loop": ("steps_plain:loop", {}),
        "hand-written loop in the graph": ("steps_plain:loop", {"in_graph": True}),
        "PyTorch": ("steps_torch:loop", {"digits": digits}),
        "PyTorch, torch.compile": ("steps_torch:loop", {"digits": digits, "compiled": True}),
        "pythae": ("steps_torch:pythae", {"digits": digits}),
        "its products alone": ("steps_plain:products", {}),
    }
    if model == "dcgan":
        del made_by["pythae"]  # which has no GAN
    one_thread = {
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": str(settings.threads + 1),
    }
    competitors = {
        name: Competitor(
            maker,
            one_thread if name.endswith(SINGLE) else None,
            model=model,
            batch_size=batch_size,
            **arguments,
        )
        for name, (maker, arguments) in made_by.items()
    }
    return Row(
        f"step of {batch_size}",
        competitors,
        ours=3,
        amount=times * settings.steps,
        is_training=True,
    )


def _python(code, **arguments):
    return Competitor("around_training:python", code=code, **arguments)


def measure(row, rounds, threads):
    """The milliseconds of each round by competitor, and the reasons why others are missing."""
    reasons = {name: competitor.start(threads) for name, competitor in row.competitors.items()}
    missing = {name: reason for name, reason in reasons.items() if reason}
    running = {
        name: competitor for name, competitor in row.competitors.items() if name not in missing
    }
    try:
        if set(list(row.competitors)[: row.ours]) & set(missing):
            raise ImportError(f"Expected keras_gen to be installed. Received: {missing}.")
        first = {
            name: work(CHECKED_STEPS if row.is_training else row.amount)
            for name, work in running.items()
        }  # to warm up
        if row.is_training:
            check(first)
        times = {name: [] for name in running}
        for _ in range(rounds):
            for name, work in running.items():
                times[name].append(1000 * work(row.amount)["seconds"] / (row.amount * row.units))
        return times, missing
    finally:
        for competitor in running.values():
            competitor.stop()


def check(told):
    """Assert that the trainings are of the same model: as many parameters, and a loss within a tenth over the first steps."""
    ours, *others = ((name, answer) for name, answer in told.items() if "loss" in answer)
    for name, answer in others:
        assert answer["parameters"] == ours[1]["parameters"], (
            f"Expected {ours[1]['parameters']} parameters. {name}: {answer}"
        )
        assert abs(answer["loss"] / ours[1]["loss"] - 1) < 0.1, (
            f"Expected a loss near {ours[1]['loss']}. {name}: {answer}"
        )


def summary(row, times, missing):
    """A row of the table, as it is written."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        ours: {
            name: statistics.median(map(_ratio, times[ours], values))
            for name, values in times.items()
            if name != ours
        }
        for ours in list(row.competitors)[: row.ours]
    }
    return {
        "milliseconds_of": row.unit,
        "medians": medians,
        "ratios": ratios,
        "rounds": times,
        "missing": missing,
    }


def _ratio(a, b):
    return a / b


def lines(name, result):
    """A row of the table, as it is printed: a line for each competitor."""
    yield f"\n{name}: milliseconds per {result['milliseconds_of']}"
    for competitor, median in result["medians"].items():
        ratios = [ratios.get(competitor) for ratios in result["ratios"].values()]
        columns = "".join(f"{ratio:10.2f}" if ratio else f"{'':10}" for ratio in ratios)
        yield f"  {competitor:56}{median:11.3f}{columns}"
    for competitor, reason in result["missing"].items():
        yield f"  {competitor:56}    skipped: {reason}"


def machine(threads):
    """What the times depend on."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy", "torch", "pythae")
    installed = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
    }
    versions = {name: installed[name] for name in packages if name in installed}
    load = round(os.getloadavg()[0], 2)  # of the last minute, before the first row
    return {
        "cores": os.cpu_count(),
        "load": load,
        "threads": threads,
        "python": platform.python_version(),
        **versions,
    }


def main(settings: Settings):
    """Time, print and write."""
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = all_rows(settings, folder)
        unknown = set(settings.rows) - set(rows)
        if unknown:
            raise ValueError(
                f"Expected rows among {', '.join(rows)}. Received: {', '.join(unknown)}."
            )
        preparation = Competitor("around_training:prepared", folder=folder)
        if preparation.start(settings.threads):
            raise ImportError("Expected keras_gen to be installed.")
        preparation.stop()
        results = {"machine": machine(settings.threads), "rows": {}}
        for name in settings.rows or rows:
            print(name, file=sys.stderr, flush=True)
            results["rows"][name] = summary(
                rows[name], *measure(rows[name], settings.rounds, settings.threads)
            )
            settings.output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{'':58}{'median':>11}   ratio of ours to it")
    for name, result in results["rows"].items():
        print(*lines(name, result), sep="\n")


if __name__ == "__main__":
    import tyro  # not above: the processes of the competitors import this file, too

    main(tyro.cli(Settings, description=__doc__))
