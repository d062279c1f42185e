"""Compare the speed and the peak memory of `data.load` and of Keras when they read JPEG files.

    python benchmarks/reading.py CIFAR10/train FLOWERS

The files of the first folder are read as they are. Those of the second folder are resized to
256×256 pixels and written into a temporary folder beforehand. Each reader runs in a process of its
own, and the readers take turns. The first epoch includes listing the files, so that its time starts
with the call of `data.load` or `keras.utils.image_dataset_from_directory`.

`data.load` keeps images in memory if they need at most 512 MiB. The training images of the first
folder need less, and those of the second folder need more. The benchmark measures both folders with
the opposite choice, too.

All readers return training images and test images, nine tenths and one tenth of the files. Keras
returns pixels from 0 to 255, and `data.load` returns pixels from 0 to 1. Therefore there is also a
reader that divides Keras's pixels by 255.

Before each measurement, another process fills 3 GiB of memory and ends. A virtual machine gets its
memory from the host at the first use. Without this step, the measured time would contain this wait,
which can be longer than the reading of the files.
"""

import argparse
import itertools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

KERAS = ("keras", "keras, divided by 255")
# Per folder: our readers, and for how many bytes of images they use memory. None is the default.
OURS = {
    "32×32": {"keras_gen": None, "keras_gen, not in memory": 0},
    "256×256": {"keras_gen": None, "keras_gen, in memory": 2**30},
}
BATCH_SIZE = 128
LATER_EPOCHS = 2


def keras_batches(folder, size, divide):
    """Return all images of a folder as training and test batches, read by Keras."""
    import keras
    import tensorflow as tf

    splits = keras.utils.image_dataset_from_directory(
        folder,
        image_size=(size, size),
        batch_size=BATCH_SIZE,
        seed=0,
        verbose=False,
        validation_split=0.1,
        subset="both",
    )
    if not divide:
        return splits
    return [
        split.map(lambda x, y: (x / 255, y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(
            tf.data.AUTOTUNE
        )
        for split in splits
    ]


def keras_gen_batches(folder, size):
    """Return all images of a folder as training and test batches, read by keras_gen."""
    from keras_gen import data

    return data.load(folder, BATCH_SIZE, labels=True, image_size=(size, size))


def measure(reader, folder, size):
    """Return images per second, processor time per image in microseconds, and peak memory.

    Both are measured for the first epoch and for later epochs.
    """
    import keras  # noqa: F401

    import keras_gen.data._pipeline

    limit = OURS[f"{size}×{size}"].get(reader)
    if limit is not None:
        keras_gen.data._pipeline._FILES_LIMIT = limit
    before = peak_mib()
    fill = "import numpy; numpy.ones(3 * 2**30, 'uint8')"
    subprocess.run([sys.executable, "-c", fill], check=True)
    speeds = []
    cpu_seconds = [time.process_time()]
    start = time.perf_counter()
    if reader in KERAS:
        splits = keras_batches(folder, size, divide=reader != "keras")
    else:
        splits = keras_gen_batches(folder, size)
    for _ in range(1 + LATER_EPOCHS):
        count = sum(len(y) for split in splits for _, y in split)
        end = time.perf_counter()
        speeds.append(count / (end - start))
        start = end
        cpu_seconds.append(time.process_time())
    return {
        "images": count,
        "first_epoch": speeds[0],
        "later_epochs": statistics.median(speeds[1:]),
        "first_epoch_cpu_us": 1e6 * (cpu_seconds[1] - cpu_seconds[0]) / count,
        "later_epochs_cpu_us": 1e6 * (cpu_seconds[-1] - cpu_seconds[1]) / count / LATER_EPOCHS,
        "peak_mib": peak_mib(),
        "mib_after_imports": before,
    }


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write_resized(source, target, size=256):
    """Write all images of a folder as JPEG files of `size`×`size` pixels."""
    import PIL.Image

    for path in sorted(pathlib.Path(source).rglob("*.jpg")):
        resized = target / path.relative_to(source)
        resized.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.open(path).resize((size, size)).save(resized, quality=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("small", help="folder of JPEG files of 32×32 pixels, one folder per class")
    parser.add_argument("large", help="folder of JPEG files that are resized to 256×256 pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        reader, folder, size = arguments.measure
        print(json.dumps(measure(reader, folder, int(size))))
        return
    with tempfile.TemporaryDirectory() as resized:
        write_resized(arguments.large, pathlib.Path(resized))
        results = {}
        for name, folder, size in (("32×32", arguments.small, 32), ("256×256", resized, 256)):
            results[name] = {reader: [] for reader in (*KERAS, *OURS[name])}
            for _ in range(arguments.rounds):
                for reader in results[name]:
                    found = in_process(reader, folder, size)
                    found["load"] = round(os.getloadavg()[0], 2)
                    results[name][reader].append(found)
                    print(name, reader, found, flush=True)
    write_results(results)


def in_process(reader, folder, size):
    """Return the result of `measure` in a process of its own."""
    command = [sys.executable, __file__, "-", "-", "--measure", reader, str(folder), str(size)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def write_results(results):
    """Write all rounds, the medians, and the ratios of Keras's speed to ours."""
    from speed import machine  # not at the top, because the measuring processes run this file

    summary = {}
    for name, readers in results.items():
        summary[name] = {
            reader: {
                key: round(statistics.median(found[key] for found in rounds)) for key in rounds[0]
            }
            for reader, rounds in readers.items()
        }
        for ours, theirs, epoch in itertools.product(
            OURS[name], KERAS, ("first_epoch", "later_epochs")
        ):
            ratios = [
                their[epoch] / our[epoch]
                for their, our in zip(readers[theirs], readers[ours], strict=True)
            ]
            summary[name][ours][f"{theirs} / ours, {epoch}"] = round(statistics.median(ratios), 3)
    file = pathlib.Path(__file__).parent / "results" / "reading.json"
    content = {
        "machine": machine(len(os.sched_getaffinity(0))),
        "images per second": summary,
        "rounds": results,
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
