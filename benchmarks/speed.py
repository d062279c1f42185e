"""Time keras_gen and its competitors: training, batches, start-up, inference and log p(x).

    python benchmarks/speed.py                        # all rows of the table
    python benchmarks/speed.py --rows mlp_vae import  # some rows
    python benchmarks/speed.py --rows conv_vae --avx2 # without AVX-512

Every competitor has a process of its own with the same number of threads. In each round, all
competitors of a row take turns, so that other work of the machine affects them equally. The table
has the medians over the rounds, and the median over the rounds of the ratio of our time to that of
each competitor; below 1, ours is faster. PyTorch (the extra `bench`) and pythae are skipped if they
are not installed. All trainings of a row must have the same number of parameters as ours, and their
mean loss over the first steps must differ from ours by less than 10 %, or 25 % for residual
networks. The results are written to `benchmarks/results/speed.json`, or with `--avx2` to
`benchmarks/results/speed_avx2.json`. With `--rows`, the other rows of the file stay as they are.
"""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import operator
import os
import pathlib
import platform
import statistics
import sys
import tempfile

from competitor import Competitor

RESULTS = pathlib.Path(__file__).parent / "results"
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # TensorFlow's and PyTorch's convolutions and matrices
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # PyTorch's matrix multiplications
}
"""Environment variables that forbid AVX-512 in convolutions and matrix multiplications.

Older or smaller processors lack AVX-512. PyTorch's elementwise operations still use it here. With
`ATEN_CPU_CAPABILITY=avx2`, the loss of the convolutional VAE with `torch.compile` is NaN in PyTorch
2.13.
"""
# Per model: the batch size, and a factor of the number of steps, because steps of MLPs are short.
TRAININGS = {
    "mlp_vae": (100, 10),
    "conv_vae": (128, 1),
    "dcgan": (64, 1),
    "residual_vae": (128, 1),
    "hierarchical_vae": (100, 5),
    "vq_vae": (128, 1),
    "table_vae": (100, 10),
}
IN_PYTHAE = ("mlp_vae", "conv_vae")  # with the same networks and the same loss
# The layers of residual networks are not only products.
WITH_PRODUCTS = ("mlp_vae", "conv_vae", "dcgan", "hierarchical_vae", "vq_vae")
# Per signature: its name in the exported model, and the sizes of the calls.
SIGNATURES = {
    "generate": ("generate", True),
    "encode": ("encode", True),
    "latents": ("encode", True),
    "decode": ("decode", False),
    "reconstruct": ("serving_default", False),
    "score": ("score", False),
}
SINGLE = "single-threaded operations"
CHECKED_STEPS = 10  # after more steps, two trainings of the same GAN differ by several percent
# The code of the command `keras-gen`.
HELP = "import sys; sys.argv = ['keras-gen', '--help']; from keras_gen.cli import main; main()"
# The training of the row "start_up", from the command line.
TRAIN_MLP = "train vae --network mlp --hidden 200 200 --latent-size 50 --batch-size 100"
IMPORT = (
    "import time, {}; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
)


@dataclasses.dataclass
class Settings:
    """What is timed."""

    rows: tuple[str, ...] = ()
    """Names of the rows of the table. Default: all."""
    rounds: int = 5
    """Number of rounds."""
    steps: int = 100
    """Training steps or batches per round; ten times as many for the MLP VAE."""
    steps_per_execution: int = 50
    """Training steps that `fit` executes per call of its graph. The first competitor uses 1."""
    images: int = 100
    """Images per call of generate and encode; log p(x) is estimated for five times as many."""
    threads: int = 2
    """Threads of each process."""
    avx2: bool = False
    """Whether convolutions and matrix multiplications use AVX2 in place of AVX-512."""
    output: pathlib.Path | None = None
    """File to write. Default: a file in `benchmarks/results`."""


@dataclasses.dataclass
class Row:
    """One row of the table: competitors that do the same work."""

    unit: str
    """The work whose milliseconds are reported."""
    competitors: dict[str, Competitor]
    """Competitors by name, ours first."""
    ours: int = 1
    """How many of the competitors are ours."""
    amount: int = 1
    """Amount of work per round."""
    units: int = 1
    """Number of units, such as images, in an amount of 1."""
    is_training: bool = False
    """Whether the competitors must agree in the number of parameters and in the loss."""
    tolerance: float = 0.1
    """Largest relative difference of the losses of a training."""
    rounds: int | None = None
    """Number of rounds of a row that takes minutes. Default: that of the settings."""


def all_rows(settings, folder):
    """Return the rows by name. `folder` contains the files of `around_training.prepared`."""
    rows = {model: _training(model, settings, folder) for model in TRAININGS}
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
    first_step = "import {0}; {0}.{1}('mlp_vae', 100{2})(1); print('done')"
    fit = first_step.format("steps_keras_gen", "fit", "")
    loop = first_step.format("steps_plain", "loop", "")
    digits = f", {str(folder / 'digits.npy')!r}"
    loop_of_torch = first_step.format("steps_torch", "loop", digits)
    printed = functools.partial(Competitor, "around_training:printed")
    rows["start_up"] = Row(
        "new process until the end of its first step",
        {
            "keras_gen fit": printed(text="done", code=fit),
            "keras_gen fit, imported before Keras": printed(
                text="done", code=f"import keras_gen; keras_gen.VAE; {fit}"
            ),
            "hand-written loop": printed(text="done", code=loop),
            "PyTorch": printed(text="done", code=loop_of_torch, needs="torch"),
        },
        ours=2,
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
    for method, (signature, with_batches) in SIGNATURES.items():
        for images in (1, settings.images) if with_batches else (1,):
            arguments = {"folder": folder, "images": images}
            competitors = {
                "Keras": Competitor("around_training:keras_model", method=method, **arguments),
                "SavedModel in Python": Competitor(
                    "around_training:saved_model", signature=signature, **arguments
                ),
                "SavedModel in C++": Competitor(
                    "around_training:cpp_loader", signature=signature, **arguments
                ),
            }
            rows[f"{method}_{images}"] = Row(
                f"image, {images} per call", competitors, amount=50, units=images
            )
    rows["first_progress"] = Row(
        "new process until the end of its first step",
        {
            "keras-gen train": printed(text="loss:", command=TRAIN_MLP, folder=folder),
            "hand-written loop": printed(text="done", code=loop),
        },
    )
    commands = {"keras-gen train vae": "train vae", "keras-gen evaluate runs/vae": "evaluate"}
    rows["default_run"] = Row(
        "command",
        {
            name: Competitor("around_training:command", name=command, folder=folder)
            for name, command in commands.items()
        },
        rounds=1,
    )
    names = {
        "keras_gen log_likelihood": "likelihood",
        "its decoder's matrix multiplications": "products",
    }
    competitors = {
        name: Competitor("likelihood:work", name=work, images=5 * settings.images, num_samples=5000)
        for name, work in names.items()
    }
    rows["likelihood"] = Row("image", competitors, units=5 * settings.images)
    return rows


def _training(model, settings, folder):
    """Return the row of the training steps of a model."""
    batch_size, factor = TRAININGS[model]
    several = settings.steps_per_execution
    array = folder / ("table.npy" if model == "table_vae" else "digits.npy")
    source = folder / "table.csv" if model == "table_vae" else "mnist_mini"
    with_several = ("steps_keras_gen:fit", {"steps_per_execution": several, "source": source})
    makers = {
        "keras_gen fit": ("steps_keras_gen:fit", {"source": source}),
        f"keras_gen fit, {several} steps per execution": with_several,
        f"keras_gen fit, {several} steps, {SINGLE}": with_several,
        "hand-written loop": ("steps_plain:loop", {"source": source}),
        "hand-written loop in the graph": (
            "steps_plain:loop",
            {"in_graph": True, "source": source},
        ),
        "PyTorch": ("steps_torch:loop", {"digits": array}),
        "PyTorch, torch.compile": ("steps_torch:loop", {"digits": array, "compiled": True}),
        "pythae": ("steps_torch:pythae", {"digits": array}),
        "its matrix multiplications alone": ("steps_plain:products", {}),
    }
    if model not in IN_PYTHAE:
        del makers["pythae"]
    if model not in WITH_PRODUCTS:
        del makers["its matrix multiplications alone"]
    one_thread = {
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": str(settings.threads + 1),
    }
    competitors = {}
    for name, (maker, arguments) in makers.items():
        environment = one_thread if name.endswith(SINGLE) else None
        competitors[name] = Competitor(
            maker, environment, model=model, batch_size=batch_size, **arguments
        )
    return Row(
        f"step of {batch_size}",
        competitors,
        ours=3,
        amount=factor * settings.steps,
        is_training=True,
        # With other seeds, the losses of the first steps differ by up to 20 %.
        tolerance=0.25 if model == "residual_vae" else 0.1,
    )


def _python(code, **arguments):
    """Return a competitor that runs Python code in a new process."""
    return Competitor("around_training:python", code=code, **arguments)


def measure(row, rounds, threads, environment):
    """Measure a row.

    Args:
        row: The row.
        rounds: Number of rounds.
        threads: Threads of each process.
        environment: Environment variables of all competitors.

    Returns:
        `(times, missing)`: the milliseconds of each round by competitor, and the reasons why the
        other competitors are skipped.
    """
    running = {}
    missing = {}
    for name, competitor in row.competitors.items():
        competitor.environment = {**environment, **competitor.environment}
        reason = competitor.start(threads)
        if reason:
            missing[name] = reason
        else:
            running[name] = competitor
    try:
        if set(list(row.competitors)[: row.ours]) & set(missing):
            raise ImportError(f"Expected keras_gen to be installed. Received: {missing}.")
        # The first calls are for warm-up.
        amount = CHECKED_STEPS if row.is_training else row.amount
        first = {name: work(amount) for name, work in running.items()}
        if row.is_training:
            check(first, row.tolerance)
        times = {name: [] for name in running}
        for _ in range(rounds):
            for name, work in running.items():
                times[name].append(1000 * work(row.amount)["seconds"] / (row.amount * row.units))
        return times, missing
    finally:
        for competitor in running.values():
            competitor.stop()


def check(answers, tolerance):
    """Assert that all trainings have as many parameters as the first, and a similar loss."""
    trainings = {name: answer for name, answer in answers.items() if "loss" in answer}
    ours = next(iter(trainings.values()))
    for name, answer in trainings.items():
        assert answer["parameters"] == ours["parameters"], (
            f"Expected {ours['parameters']} parameters. {name}: {answer}"
        )
        assert abs(answer["loss"] / ours["loss"] - 1) < tolerance, (
            f"Expected a loss near {ours['loss']}. {name}: {answer}"
        )


def summary(row, times, missing):
    """Return a row of the table for the results file."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {}
    for ours in list(row.competitors)[: row.ours]:
        others = {name: values for name, values in times.items() if name != ours}
        ratios[ours] = {
            name: statistics.median(map(operator.truediv, times[ours], values))
            for name, values in others.items()
        }
    return {
        "milliseconds_of": row.unit,
        "medians": medians,
        "ratios": ratios,
        "rounds": times,
        "missing": missing,
    }


def lines(name, result):
    """Yield the printed lines of a row of the table, one per competitor."""
    yield f"\n{name}: milliseconds per {result['milliseconds_of']}"
    for competitor, median in result["medians"].items():
        ratios = [ratios.get(competitor) for ratios in result["ratios"].values()]
        columns = "".join(f"{ratio:10.2f}" if ratio else f"{'':10}" for ratio in ratios)
        yield f"  {competitor:56}{median:11.3f}{columns}"
    for competitor, reason in result["missing"].items():
        yield f"  {competitor:56}    skipped: {reason}"


def machine(threads):
    """Return the properties of the machine and the versions, on which the times depend."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy", "torch", "pythae")
    installed = {}
    for distribution in importlib.metadata.distributions():
        installed[distribution.name] = distribution.version
    versions = {name: installed[name] for name in packages if name in installed}
    load = round(os.getloadavg()[0], 2)  # over the last minute, before the first row
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "load": load,
        "threads": threads,
        "python": platform.python_version(),
        **versions,
    }


def processor():
    """Return the name of the processor, such as "AMD EPYC"."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")  # on Linux, platform.processor() has no name
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main(settings: Settings):
    """Time all rows, print and write the table."""
    output = settings.output or RESULTS / ("speed_avx2.json" if settings.avx2 else "speed.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = AVX2 if settings.avx2 else {}
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
        results = {}
        if settings.rows and output.exists():
            results = json.loads(output.read_text())["rows"]
        here = machine(settings.threads)
        measured = settings.rows or tuple(rows)
        for name in measured:
            print(name, file=sys.stderr, flush=True)
            rounds = rows[name].rounds or settings.rounds
            times, missing = measure(rows[name], rounds, settings.threads, environment)
            results[name] = {**summary(rows[name], times, missing), "machine": here}
            ordered = {each: results[each] for each in rows if each in results}
            output.write_text(json.dumps({"rows": ordered}, indent=1) + "\n")
    print(f"{'':58}{'median':>11}   ratio of our time to it")
    for name in measured:
        print(*lines(name, results[name]), sep="\n")


if __name__ == "__main__":
    import tyro  # not at the top, because the processes of the competitors import this file, too

    main(tyro.cli(Settings, description=__doc__))
