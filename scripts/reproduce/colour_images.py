"""Compare the networks for colour images with those of version 0.1.0 by the Fréchet distance.

    python scripts/train_extractor.py CIFAR10/train cifar10.keras --image-size 32 --flip
    python scripts/reproduce/colour_images.py cifar10 CIFAR10/train cifar10.keras --image-size 32

The convolutional networks of version 0.1.0 halved the height and the width of an image twice,
whatever its size. The autoencoder consisted of multilayer perceptrons, and the VAE had a Bernoulli
likelihood. The settings of the current version are the defaults of `keras-gen train`, except for
the number of epochs and the learning rate. Each training has the same processor time, so that other
work on the machine does not matter. During this time, the learning rate falls to zero with cosine
decay. The features are those of a classifier of the same images, which `scripts/train_extractor.py`
trains. Therefore the distances are not comparable with Inception FIDs, or between data sets.

The target is half the distance of version 0.1.0 for each kind of model. The script also writes
images of samples into `docs/images`.
"""

import dataclasses
import math
import pathlib
import time

import keras
import numpy as np
import results
import tyro

from keras_gen import data, evaluation
from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import grid
from keras_gen.runs.recipes import AutoencoderConfig, GANConfig, VAEConfig, build, for_images

TABLE = "colour_images"
CONFIGS = {
    ("VAE", "0.1.0"): VAEConfig(filters=(32, 64), latent_size=10),
    ("VAE", "now"): VAEConfig(),
    ("autoencoder", "0.1.0"): AutoencoderConfig(latent_size=32),
    ("autoencoder", "now"): AutoencoderConfig(),
    ("GAN", "0.1.0"): GANConfig(filters=(64, 128), penalties=(), ema_momentum=None),
    ("GAN", "now"): GANConfig(),
}
"""The settings of each training, by model and version. `train` adds the defaults of `keras-gen
train` for these images to the settings of the current version."""


@dataclasses.dataclass
class Settings:
    """Which images are used, and how long each training takes."""

    name: tyro.conf.Positional[str]
    """Name of the data set in the results, such as `cifar10`."""
    folder: tyro.conf.Positional[pathlib.Path]
    """Folder of images."""
    extractor: tyro.conf.Positional[pathlib.Path]
    """Network that `scripts/train_extractor.py` wrote."""
    image_size: int = 32
    """Height and width of the images in pixels."""
    minutes: float = 10
    """Processor time of each training, in minutes."""
    seeds: int = 1
    """Number of trainings per kind of model and version."""
    only: tuple[str, ...] = ()
    """Kinds of models to train. Default: all."""


class TimeLimit(keras.callbacks.Callback):
    """Stop a training after a processor time, and lower the learning rates along a cosine."""

    def __init__(self, minutes):
        super().__init__()
        self.seconds = 60 * minutes
        self.steps = 0

    def on_train_begin(self, logs=None):
        """Remember the initial learning rates."""
        self.start = None
        several = getattr(self.model.optimizer, "optimizers", None)
        self.optimizers = several or [self.model.optimizer]
        self.rates = [float(optimizer.learning_rate) for optimizer in self.optimizers]

    def on_train_batch_end(self, batch, logs=None):
        """Set the learning rates, and stop if the time is over. The first step is not counted."""
        if self.start is None:
            self.start = time.process_time()
        self.steps += 1
        used = (time.process_time() - self.start) / self.seconds
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.learning_rate.assign(rate * 0.5 * (1 + math.cos(math.pi * min(used, 1))))
        if used >= 1:
            self.model.stop_training = True


def train(settings, kind, version, seed):
    """Train once, write an image of samples, and return the results."""
    keras.utils.set_random_seed(seed)
    size = (settings.image_size, settings.image_size)
    config = dataclasses.replace(CONFIGS[kind, version], seed=seed, schedule="constant")
    training, test = data.load(settings.folder, config.batch_size, image_size=size, seed=seed)
    if version == "now":
        config = for_images(config, (*size, 3), len(training))
        training, test = data.load(settings.folder, config.batch_size, image_size=size, seed=seed)
    model = build(config, (*size, 3), 1)
    limit = TimeLimit(settings.minutes)
    model.fit(training.repeat(), steps_per_epoch=50, epochs=10**6, verbose=0, callbacks=[limit])
    if getattr(config, "latent_density", None):
        model.fit_latent_density(training)
    extractor = evaluation.load_extractor(settings.extractor)
    real = as_arrays(test, 10_000)[0]
    other = as_arrays(training, len(real))[0]
    quality = evaluation.sample_quality(model, real, other, extractor, seed=seed)
    path = results.DOCS / "images" / f"{TABLE}-{case_name(settings, kind, version, seed)}.png"
    keras.utils.save_img(path, grid(model.generate(32, seed=seed), 8), scale=False)
    return {
        "data": settings.name,
        "kind": kind,
        "version": version,
        "seed": seed,
        **{name: round(value, 3) for name, value in quality.scores.items()},
        "protocol": quality.protocol,
        "epochs": round(limit.steps / len(training), 1),
        "parameters": model.count_params(),
    }


def case_name(settings, kind, version, seed):
    """Return the name of a training, which the files of its results contain."""
    return f"{settings.name}-{kind}-{version}-{settings.minutes:g}min-{seed}"


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    lines = []
    sentences = []
    kinds = ("VAE", "autoencoder", "GAN")
    groups = {(row["data"], row["kind"], row["minutes"]) for row in found}
    for name, kind, minutes in sorted(
        groups, key=lambda group: (group[0], kinds.index(group[1]), group[2])
    ):
        fids = {}
        for version in ("0.1.0", "now"):
            rows = [
                row
                for row in found
                if (row["data"], row["kind"], row["minutes"], row["version"])
                == (name, kind, minutes, version)
            ]
            if rows:
                fids[version] = np.mean(results.column(rows, "fid"))
                scores = [
                    results.spread(results.column(rows, score), digits)
                    for score, digits in {"fid": 1, "precision": 3, "recall": 3}.items()
                ]
                epochs = results.spread(results.column(rows, "epochs"), 1)
                lines.append([name, kind, version, *scores, f"{minutes:g}", epochs, len(rows)])
        if len(fids) == 2:
            ratio = fids["now"] / fids["0.1.0"]
            reached = "reached" if ratio <= 0.5 else "**not** reached"
            sentences.append(
                f"- {name}, {kind}, {minutes:g} minutes: {ratio:.3f} (the target is {reached})"
            )
    head = ["data", "model", "networks", "FID", "precision", "recall"]
    head += ["minutes", "epochs", "seeds"]
    sizes = sorted({f"{row['size']}×{row['size']} ({row['data']})" for row in found})
    extractors = sorted({f"`{row['protocol']['extractor']}`" for row in found})
    return f"""`python scripts/reproduce/colour_images.py` compares the default networks with those
of version 0.1.0 on colour images of {" and ".join(sizes)}. Both versions have the same processor
time, which the column `minutes` shows. The FID uses the features of {" and ".join(extractors)},
classifiers that `scripts/train_extractor.py` trained on the same images. These FIDs are not
comparable with FIDs of papers, or between data sets. A lower FID is better. The target is at most
half the FID of version 0.1.0. The current defaults of the three models were chosen by this FID, on
the same images of flowers and with the same seed. Therefore other images can give a higher ratio.
The FID of the current version, divided by that of version 0.1.0, is:

{chr(10).join(sentences)}

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {}
    for seed in range(settings.seeds):
        for kind, version in CONFIGS:
            if not settings.only or kind in settings.only:
                case = case_name(settings, kind, version, seed)
                cases[case] = (settings, kind, version, seed)
    results.complete(TABLE, cases, train, minutes=settings.minutes, size=settings.image_size)
    results.write_section("Colour images", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
