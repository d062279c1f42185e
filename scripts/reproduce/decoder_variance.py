"""Reproduce the order of the decoder-variance table on MNIST (Rybkin et al. 2021, table 3).

    python scripts/reproduce/decoder_variance.py --data-dir ~/tensorflow_datasets

The paper is arXiv:2006.13202. The script trains VAEs with a normal likelihood and three choices of
σ: fixed (σ = 1), shared (one σ for all pixels, which a formula computes), and per pixel (the
decoder outputs σ). Our networks differ from those of the paper, and the FID of the paper uses
Inception features. So the target is only the order from the best choice to the worst. By −ELBO, the
order is: per pixel, shared, fixed. By the FID, the order is: shared, fixed, per pixel. The budget
is 30 minutes on two cores.
"""

import dataclasses
import itertools
import time
import warnings

import keras
import numpy as np
import results
import tyro

from keras_gen import VAE, data, distributions, evaluation, networks
from keras_gen.data import as_arrays

IMAGE = (28, 28, 1)
TABLE = "decoder_variance"
SCALES = {"fixed": 1.0, "shared": "optimal", "per_pixel": "per_element"}
# The paper's −ELBO and FID.
PAPER = {"fixed": (740.5, 59.9), "shared": (-896, 32.2), "per_pixel": (-2895, 132.5)}


@dataclasses.dataclass
class Settings:
    """Which trainings are compared."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    seeds: int = 3
    """Number of trainings per choice of σ."""
    epochs: int = 30
    """Number of epochs of the 60,000 training images."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam, with cosine decay to 0."""


def train(settings, kind, seed):
    """Train once, and return the results."""
    keras.utils.set_random_seed(seed)
    training, test = data.load("mnist", 128, data_dir=settings.data_dir, seed=seed)
    posterior = distributions.DiagonalNormal(16)
    with warnings.catch_warnings():
        # `Normal` warns about one σ per pixel, which is part of this comparison.
        warnings.simplefilter("ignore")
        likelihood = distributions.Normal(IMAGE, SCALES[kind])
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(512, 256))
    decoder = networks.mlp((16,), likelihood.parameter_shape, hidden=(256, 512))
    vae = VAE(encoder, decoder, posterior, likelihood, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.epochs * len(training)
    )
    vae.compile(
        keras.optimizers.Adam(schedule, global_clipnorm=1000.0),
        steps_per_execution=50,
        jit_compile=False,
    )
    start = time.perf_counter()
    vae.fit(training, epochs=settings.epochs, verbose=0)
    minutes = (time.perf_counter() - start) / 60
    x, _ = as_arrays(test)
    quality = evaluation.sample_quality(vae, x, as_arrays(training, len(x))[0], seed=seed)
    bound = -vae.evaluate(x, verbose=0, return_dict=True)["elbo"]
    return {
        "kind": kind,
        "seed": seed,
        "bound": round(bound, 1),
        **rounded(quality),
        "minutes": round(minutes, 1),
    }


def rounded(quality):
    """Return the scores of a `SampleQuality`, rounded, and its protocol."""
    scores = {name: round(value, 3) for name, value in quality.scores.items()}
    return {**scores, "protocol": quality.protocol}


def verdict(trainings, name, order):
    """Return sentences that compare the order by a score with the order of the paper.

    Args:
        trainings: Results by choice of σ.
        name: Name of the score; lower is better.
        order: The choices of σ in the order of the paper.
    """
    means = {kind: np.mean(results.column(rows, name)) for kind, rows in trainings.items()}
    measured = sorted(means, key=means.get)
    seeds = min(len(rows) for rows in trainings.values())
    steps = []
    for first, second in itertools.pairwise(order):
        pairs = zip(trainings[first], trainings[second], strict=True)
        count = sum(one[name] < other[name] for one, other in pairs)
        steps.append(f"{first} is better than {second} in {count} of {seeds} seeds")
    text = f"the order of the paper is: {', '.join(order)}. "
    if measured == order:
        text += "The order of our means is the same. "
    else:
        text += f"The order of our means is **different**: {', '.join(measured)}. "
    text += f"In our results, {', and '.join(steps)}."
    return text.replace("_", " ")


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    trainings = {kind: [row for row in found if row["kind"] == kind] for kind in SCALES}
    lines = []
    for kind, rows in trainings.items():
        paper_bound, paper_fid = PAPER[kind]
        lines.append(
            [
                kind.replace("_", " "),
                results.spread(results.column(rows, "bound"), 0),
                paper_bound,
                results.spread(results.column(rows, "fid"), 1),
                results.spread(results.column(rows, "precision"), 3),
                results.spread(results.column(rows, "recall"), 3),
                paper_fid,
            ]
        )
    head = [
        "σ",
        "−ELBO",
        "−ELBO of the paper",
        "FID (classifier)",
        "precision",
        "recall",
        "FID of the paper (Inception)",
    ]
    by_bound = verdict(trainings, "bound", ["per_pixel", "shared", "fixed"])
    by_fid = verdict(trainings, "fid", ["shared", "fixed", "per_pixel"])
    protocol = found[0]["protocol"]
    seeds = min(len(rows) for rows in trainings.values())
    return f"""`python scripts/reproduce/decoder_variance.py` compares three choices of the
standard deviation σ of a normal likelihood on grey images of MNIST: σ = 1 (fixed), one σ for all
pixels in closed form (shared), and one σ per pixel from the decoder (per pixel). The paper is
Rybkin et al. 2021, arXiv:2006.13202.

−ELBO is in nats, averaged over all 10,000 test images. Lower is better, for the FID too.
Precision and recall describe the samples, and higher is better. ± is the standard deviation over
{seeds} seeds. There are {found[0]["epochs"]} epochs per training.

The FID uses features of `{protocol["extractor"]}` (hash of the weights: `{protocol["weights"]}`),
and the paper uses Inception features. Therefore compare only the order of the rows, from
the best to the worst. By −ELBO, {by_bound} By the FID, {by_fid} The FID between the test
images and as many training images is {found[0]["real_fid"]:.2f}.

All trainings together took {sum(results.column(found, "minutes")):.0f} minutes. The target
was at most 30 minutes.

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {}
    for seed in range(settings.seeds):
        for kind in SCALES:
            cases[f"{kind}-{seed}"] = (settings, kind, seed)
    protocol = {"epochs": settings.epochs, "learning_rate": settings.learning_rate}
    results.complete(TABLE, cases, train, **protocol)
    results.write_section("Decoder variance", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
