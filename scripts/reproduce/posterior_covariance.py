"""Compare VAEs with a diagonal and a full covariance of q(z | x), in pairs with the same seed.

    python scripts/reproduce/posterior_covariance.py --data-dir ~/tensorflow_datasets

The comparison shows whether assuming independent latents was adequate. MNIST is binarized
dynamically, and the encoder has 784-200-200-n tanh units. Both VAEs of a pair start from the same
posterior: the VAE with the full covariance starts with the weights of the other VAE, and its
encoder initially outputs 0 for the entries below the diagonal. Both VAEs see the data in the same
order, with the same noise. The script reports the ELBO and a lower bound of log p(x), from 500
samples per image, for all 10,000 test images. There is no target, because no such table is
published. The budget is 90 minutes on two cores.
"""

import dataclasses
import time

import keras
import numpy as np
import results
import tyro

from keras_gen import VAE, data, distributions, evaluation, networks
from keras_gen.data import as_arrays
from keras_gen.evaluation.independence import extended

IMAGE = (28, 28, 1)
TABLE = "posterior_covariance"
COVARIANCES = ("diagonal", "full")


@dataclasses.dataclass
class Settings:
    """Which trainings are compared."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    latents: tuple[int, ...] = (10, 50)
    """Numbers of latents."""
    seeds: int = 5
    """Number of pairs of trainings."""
    epochs: int = 60
    """Number of epochs of the 60,000 training images."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam, with cosine decay to 0."""
    num_samples: int = 500
    """Samples per test image for the log-likelihood."""


def train(settings, latents, covariance, seed):
    """Train once, and return the results."""
    keras.utils.set_random_seed(seed)
    training, test = data.load("mnist", 100, data_dir=settings.data_dir, seed=seed, binarize=True)
    posterior = distributions.DiagonalNormal(latents)
    likelihood = distributions.Bernoulli(IMAGE)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), **wide)
    decoder = networks.mlp((latents,), IMAGE, **wide)
    if covariance == "full":
        posterior = distributions.FullCovarianceNormal(latents)
        encoder = extended(encoder, posterior)
    vae = VAE(encoder, decoder, posterior, likelihood, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, settings.epochs * len(training)
    )
    vae.compile(keras.optimizers.Adam(schedule), steps_per_execution=100, jit_compile=False)
    start = time.perf_counter()
    vae.fit(training, epochs=settings.epochs, verbose=0)
    minutes = (time.perf_counter() - start) / 60
    x, _ = as_arrays(test)
    found = evaluation.log_likelihood(vae, x, num_samples=settings.num_samples, verbose=0)
    return {
        "latents": latents,
        "family": covariance,
        "seed": seed,
        "elbo": round(float(np.mean(found.elbos)), 3),
        "log_likelihood": round(found.mean, 3),
        "error_of_draws": round(found.standard_error, 4),
        "active_units": int(evaluation.latent_report(vae, x).active.sum()),
        "minutes": round(minutes, 1),
    }


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    num_samples = found[0]["num_samples"]
    scores = {"elbo": "ELBO", "log_likelihood": f"log p(x), {num_samples} samples"}
    lines = []
    for latents in sorted({row["latents"] for row in found}):
        rows = {covariance: [] for covariance in COVARIANCES}
        for row in sorted(found, key=lambda row: row["seed"]):
            if row["latents"] == latents:
                rows[row["family"]].append(row)
        pairs = min(map(len, rows.values()))
        if pairs < 2:
            continue
        for score, name in scores.items():
            diagonal = results.column(rows["diagonal"], score)
            full = results.column(rows["full"], score)
            gains = [b - a for a, b in zip(diagonal, full, strict=False)]
            interval = evaluation.Interval.of(gains)
            means = [results.spread(diagonal), results.spread(full)]
            lines.append([f"{latents}, {pairs} pairs", name, *means, f"**{interval}**"])
        units = [results.column(rows[covariance], "active_units") for covariance in COVARIANCES]
        means = [results.spread(values, 1) for values in units]
        lines.append([f"{latents}, {pairs} pairs", "active units", *means, ""])
    head = ["latents", "", "diagonal", "full covariance", "gain, paired (95 %)"]
    return f"""`python scripts/reproduce/posterior_covariance.py` compares two posteriors of a VAE
on MNIST: a normal distribution with a diagonal covariance, and one with a full covariance. The
question is what the assumption of independent latents costs.

The ELBO and log p(x) are in nats, averaged over all 10,000 test images. Higher is better. The
estimate of log p(x) is too low on average. An active unit is a latent that the VAE uses. The
training images are binarized again in every epoch, and there are {found[0]["epochs"]} epochs.

Each pair has one seed. Both VAEs of a pair start from the same weights, and see the same order of
the data and the same noise. ± is the standard deviation over seeds. The gain is the mean of the
paired differences, with Student's 95 % interval. No such table is published, so there is no
target.

All trainings together took {sum(results.column(found, "minutes")):.0f} minutes, with two
trainings at a time, each on one core. The target was at most 90 minutes.

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {}
    for latents in settings.latents:
        for seed in range(settings.seeds):
            for covariance in COVARIANCES:
                case = (settings, latents, covariance, seed)
                cases[f"{latents}-{covariance}-{seed}"] = case
    protocol = {
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "num_samples": settings.num_samples,
    }
    results.complete(TABLE, cases, train, **protocol)
    results.write_section("Was independence adequate? Diagonal against full covariance", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
