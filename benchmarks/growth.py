"""How time and memory grow: a training step and the peak of its process against batch size, latent size and data size.

    python benchmarks/growth.py

The MLP VAE of `speed.py`, by `fit`, each size in a process of its own; all sizes take turns over the rounds. The latent size is that of
a full covariance, whose parameters grow with its square; the time of a data size is that of a step in whole epochs, the data being
an .npz that `data.load` reads. Writes `benchmarks/results/growth.json` and draws `benchmarks/results/growth.png`.
"""

import dataclasses
import json
import pathlib
import statistics
import tempfile

from competitor import Competitor

FOLDER = pathlib.Path(__file__).parent / "results"
BATCH_SIZE = 100  # where it is not what grows


@dataclasses.dataclass
class Settings:
    """What is measured."""

    batch_sizes: tuple[int, ...] = (10, 30, 100, 300, 1000, 3000)
    latent_sizes: tuple[int, ...] = (2, 8, 32, 64, 128, 256)
    data_sizes: tuple[int, ...] = (1_000, 10_000, 60_000, 200_000)
    rounds: int = 3
    """Rounds."""
    steps: int = 100
    """Training steps a round; at least an epoch of each data size."""
    threads: int = 2
    """Threads of each process."""
    output: pathlib.Path = FOLDER
    """Folder to write to."""


def random_images(path, images):
    """Write so many images of random grey values, nine tenths of them to train on."""
    import numpy as np

    x = np.random.default_rng(0).integers(0, 256, size=(images, 28, 28), dtype=np.uint8)
    np.savez(path, x_train=x, x_test=x[:BATCH_SIZE])


def competitors(settings, folder):
    """What grows → its unit, and size → (steps a round, what trains)."""

    def training(**arguments):
        return Competitor(
            "steps_keras_gen:fit", model="mlp_vae", **{"batch_size": BATCH_SIZE, **arguments}
        )

    def of_data(images):
        path = folder / f"{images}.npz"
        random_images(path, images)
        return max(settings.steps, images // BATCH_SIZE), training(source=path, images=images)

    full = "FullCovarianceNormal"
    return {
        "batch size": {
            size: (settings.steps, training(batch_size=size)) for size in settings.batch_sizes
        },
        "latents, full covariance": {
            size: (settings.steps, training(latents=size, family=full))
            for size in settings.latent_sizes
        },
        "images": {size: of_data(size) for size in settings.data_sizes},
    }


def measure(sizes, rounds, threads):
    """Milliseconds of a step, the median of the rounds, and peak memory in MiB, by size."""
    for _, training in sizes.values():
        if training.start(threads):
            raise ImportError("Expected keras_gen to be installed.")
    told = {size: [] for size in sizes}
    for _ in range(1 + rounds):  # the first is to warm up
        for size, (steps, training) in sizes.items():
            told[size].append(training(steps))
    for _, training in sizes.values():
        training.stop()
    return {
        size: {
            "milliseconds": round(
                1000 * statistics.median(answer["seconds"] for answer in told[size][1:]) / steps, 3
            ),
            "peak_mib": round(told[size][-1]["memory"] / 2**20),
        }
        for size, (steps, _) in sizes.items()
    }


def draw(result, path):
    """Time above, memory below, a column for each thing that grows."""
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
    for (of_time, of_memory), (what, values) in zip(axes.T, result.items(), strict=True):
        sizes = list(values)
        of_time.loglog(sizes, [value["milliseconds"] for value in values.values()], "o-")
        of_memory.semilogx(sizes, [value["peak_mib"] for value in values.values()], "o-")
        of_memory.set_xticks(sizes, [f"{size:,}" for size in sizes])
        of_memory.minorticks_off()
        of_memory.set_xlabel(what)
        for axis in (of_time, of_memory):
            axis.grid(alpha=0.3)
    for of_time in axes[0]:
        of_time.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        of_time.yaxis.set_major_formatter("{x:g}")
        of_time.minorticks_off()
    axes[0, 0].set_ylabel("a training step, ms")
    axes[1, 0].set_ylabel("peak memory of the process, MiB")
    axes[1, 0].set_ylim(bottom=0)
    figure.savefig(path, dpi=100)


def main(settings: Settings):
    """Measure, print, write and draw."""
    settings.output.mkdir(parents=True, exist_ok=True)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, sizes in competitors(settings, pathlib.Path(folder)).items():
            result[what] = measure(sizes, settings.rounds, settings.threads)
            print(f"{what:26}{'ms a step':>12}{'peak, MiB':>12}")
            for size, value in result[what].items():
                print(f"{size:26,}{value['milliseconds']:12.2f}{value['peak_mib']:12,}", flush=True)
    (settings.output / "growth.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result, settings.output / "growth.png")


if __name__ == "__main__":
    import tyro  # not above: the processes that train import this file, too

    main(tyro.cli(Settings, description=__doc__))
