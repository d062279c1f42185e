"""Compare how well an autoencoder, PCA and an isolation forest detect digits of an unseen class.

For each digit, every detector is fitted to the training images of the other nine digits of
`mnist_mini`. It then scores the test images of all digits. The area under the ROC curve says how
well the scores separate the excluded digit from the others (1 is perfect, 0.5 is chance). The
benchmark prints a table and writes it to `benchmarks/results/anomalies.json`. It takes four minutes
on two cores.

    python benchmarks/anomalies.py
"""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import tyro
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from keras_gen import RegularizedAutoencoder, data, networks

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ("autoencoder", "PCA", "isolation forest")


@dataclasses.dataclass
class Settings:
    """Settings of the comparison."""

    digits: tuple[int, ...] = tuple(range(10))
    """Digits to exclude, one after the other."""
    latent_size: int = 32
    """Number of latents, and of principal components."""
    epochs: int = 30
    """Number of passes over the training data."""
    quantile: float = 0.95
    """Share of in-distribution data below the calibrated threshold."""
    output: pathlib.Path = ROOT / "benchmarks" / "results" / "anomalies.json"
    """File to write."""


def autoencoder_scores(
    train: np.ndarray, test: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Train an autoencoder and calibrate its threshold on a tenth of the training images.

    Returns:
        The scores of the test images, and whether they are above the threshold.
    """
    keras.utils.set_random_seed(0)
    l2 = keras.regularizers.L2(1e-6)
    latents = (settings.latent_size,)
    image = (28, 28, 1)
    autoencoder = RegularizedAutoencoder(
        networks.mlp(image, latents, hidden=(256,), kernel_regularizer=l2),
        networks.mlp(
            latents, image, hidden=(256,), kernel_regularizer=l2, output_activation="sigmoid"
        ),
        seed=0,
    )
    held_out = len(train) // 10
    autoencoder.compile("adam", loss="mse")
    autoencoder.fit(train[held_out:], batch_size=128, epochs=settings.epochs, verbose=0)
    autoencoder.calibrate(train[:held_out], settings.quantile)
    return autoencoder.score(test).numpy(), autoencoder.is_anomaly(test).numpy()


def pca_scores(train: np.ndarray, test: np.ndarray, num_components: int) -> np.ndarray:
    """Return the squared reconstruction error of the test images by PCA."""
    pca = PCA(num_components, random_state=0).fit(train)
    return np.mean((test - pca.inverse_transform(pca.transform(test))) ** 2, axis=1)


def main(settings: Settings) -> None:
    """Compare the detectors and print a table."""
    splits = []
    for split in data.load("mnist_mini", batch_size=1000, labels=True):
        x, y = zip(*split.as_numpy_iterator(), strict=True)
        splits.append((np.concatenate(x), np.concatenate(y)))
    (train_x, train_y), (test_x, test_y) = splits
    flat_test = test_x.reshape(len(test_x), -1)
    rows = []
    print(f"excluded  {'  '.join(NAMES)}  anomalies found  false alarms", flush=True)
    for digit in settings.digits:
        train = train_x[train_y != digit]
        anomalous = test_y == digit
        flat_train = train.reshape(len(train), -1)
        scores, found = autoencoder_scores(train, test_x, settings)
        forest = IsolationForest(random_state=0).fit(flat_train)
        all_scores = (
            scores,
            pca_scores(flat_train, flat_test, settings.latent_size),
            -forest.score_samples(flat_test),
        )
        areas = [round(float(roc_auc_score(anomalous, values)), 4) for values in all_scores]
        rows.append({"digit": digit, "auc": dict(zip(NAMES, areas, strict=True))})
        shares = f"{found[anomalous].mean():15.1%}  {found[~anomalous].mean():12.1%}"
        print(f"{digit:8}  {table_row(areas)}  {shares}", flush=True)
    mean = {name: float(np.mean([row["auc"][name] for row in rows])) for name in NAMES}
    print(f"{'mean':>8}  {table_row(list(mean.values()))}")
    settings.output.write_text(json.dumps({"mean": mean, "rows": rows}, indent=1) + "\n")


def table_row(areas: list[float]) -> str:
    """Return areas under the ROC curve, each below the name of its detector."""
    return "  ".join(f"{area:{len(name)}.3f}" for name, area in zip(NAMES, areas, strict=True))


if __name__ == "__main__":
    main(tyro.cli(Settings))
