"""Measure how time and memory grow with batch size, latent size and data size.

    python benchmarks/growth.py

The benchmark trains the MLP VAE of `speed.py` with `fit`, each size in a process of its own. It
measures milliseconds per training step, and the peak memory of the process. All sizes take turns in
each round. In the measurement of the latent size, the posterior has a full covariance. Its number
of parameters grows with the square of the latent size. The time for a data size is the mean over
whole epochs, and the data are an .npz file that `data.load` reads. The results are written to
`benchmarks/results/growth.json` and plotted in `benchmarks/results/growth.png`.
"""

import dataclasses
import json
import pathlib
import statistics
import tempfile

from competitor import Competitor

FOLDER = pathlib.Path(__file__).parent / "results"
BATCH_SIZE = 100  # unless the batch size is what grows


@dataclasses.dataclass
class Settings:
    """Which sizes are measured."""

    batch_sizes: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000)
    """Batch sizes."""
    latent_sizes: tuple[int, ...] = (2, 8, 32, 64, 128, 256)
    """Numbers of latents."""
    data_sizes: tuple[int, ...] = (1_000, 10_000, 60_000, 200_000)
    """Numbers of training images."""
    rounds: int = 3
    """Number of rounds."""
    steps: int = 100
    """Training steps per round. In the measurement of the data size, at least one epoch."""
    threads: int = 2
    """Threads of each process."""
    output: pathlib.Path = FOLDER
    """Folder to write to."""


def random_images(path, images):
    """Write a number of training images with random grey values, and `BATCH_SIZE` test images."""
    import numpy as np

    x = np.random.default_rng(0).integers(0, 256, size=(images, 28, 28), dtype=np.uint8)
    np.savez(path, x_train=x, x_test=x[:BATCH_SIZE])


def competitors(settings, folder):
    """Return for each quantity that grows: size → (steps per round, training)."""

    def training(**arguments):
        arguments = {"batch_size": BATCH_SIZE, **arguments}
        return Competitor("steps_keras_gen:fit", model="mlp_vae", **arguments)

    batch_sizes = {}
    for size in settings.batch_sizes:
        batch_sizes[size] = (settings.steps, training(batch_size=size))
    latent_sizes = {}
    for size in settings.latent_sizes:
        train = training(latents=size, posterior="FullCovarianceNormal")
        latent_sizes[size] = (settings.steps, train)
    data_sizes = {}
    for size in settings.data_sizes:
        path = folder / f"{size}.npz"
        random_images(path, size)
        steps = max(settings.steps, size // BATCH_SIZE)
        data_sizes[size] = (steps, training(source=path, images=size))
    return {
        "batch size": batch_sizes,
        "latents, full covariance": latent_sizes,
        "images": data_sizes,
    }


def measure(sizes, rounds, threads):
    """Return for each size the median milliseconds per step, and the peak memory in MiB."""
    for _, training in sizes.values():
        if training.start(threads):
            raise ImportError("Expected keras_gen to be installed.")
    answers = {size: [] for size in sizes}
    for _ in range(1 + rounds):  # the first round is for warm-up
        for size, (steps, training) in sizes.items():
            answers[size].append(training(steps))
    for _, training in sizes.values():
        training.stop()
    result = {}
    for size, (steps, _) in sizes.items():
        seconds = statistics.median(answer["seconds"] for answer in answers[size][1:])
        result[size] = {
            "milliseconds": round(1000 * seconds / steps, 3),
            "peak_mib": round(answers[size][-1]["memory"] / 2**20),
        }
    return result


def plot(result, path):
    """Plot the time above and the memory below, with one column per quantity that grows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(
        2,
        len(result),
        figsize=(4 * len(result), 6),
        sharex="col",
        sharey="row",
        layout="constrained",
    )
    for (time_axis, memory_axis), (quantity, values) in zip(axes.T, result.items(), strict=True):
        sizes = list(values)
        time_axis.loglog(sizes, [value["milliseconds"] for value in values.values()], "o-")
        memory_axis.semilogx(sizes, [value["peak_mib"] for value in values.values()], "o-")
        memory_axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        memory_axis.minorticks_off()
        memory_axis.set_xlabel(quantity)
        for axis in (time_axis, memory_axis):
            axis.grid(alpha=0.3)
    for time_axis in axes[0]:
        time_axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        time_axis.yaxis.set_major_formatter("{x:g}")
        time_axis.minorticks_off()
    axes[0, 0].set_ylabel("ms per training step")
    axes[1, 0].set_ylabel("peak memory of the process, MiB")
    axes[1, 0].set_ylim(bottom=0)
    figure.savefig(path, dpi=100)


def main(settings: Settings):
    """Measure, print, write and plot."""
    from speed import machine  # not at the top, because the measuring processes run this file

    settings.output.mkdir(parents=True, exist_ok=True)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for quantity, sizes in competitors(settings, pathlib.Path(folder)).items():
            result[quantity] = measure(sizes, settings.rounds, settings.threads)
            print(f"{quantity:26}{'ms per step':>12}{'peak, MiB':>12}")
            for size, value in result[quantity].items():
                print(f"{size:26,}{value['milliseconds']:12.2f}{value['peak_mib']:12,}", flush=True)
    content = {**result, "machine": machine(settings.threads)}
    (settings.output / "growth.json").write_text(json.dumps(content, indent=1) + "\n")
    plot(result, settings.output / "growth.png")


if __name__ == "__main__":
    import tyro  # not at the top, because the processes that train import this file, too

    main(tyro.cli(Settings, description=__doc__))
