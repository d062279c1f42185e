"""Is this a stranger? Train on nine digits, ask about the tenth; the autoencoder beside PCA and an isolation forest.

For each digit left out, every detector is fitted to the training images of the other nine and scores the test images; the area under
the ROC curve says how well the scores tell the tenth from the nine (1 is perfect, 0.5 is chance). Takes four minutes on two cores.
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


@dataclasses.dataclass
class Settings:
    """What to compare."""

    digits: tuple[int, ...] = tuple(range(10))
    """Digits to leave out, one after the other."""
    latent_size: int = 32
    """Number of latents, and of principal components."""
    epochs: int = 30
    """Passes over the training data."""
    quantile: float = 0.95
    """Share of normal data that the calibrated threshold is to let pass."""
    output: pathlib.Path | None = None
    """Where to write the figures as JSON."""


def autoencoder_scores(train, test, settings):
    """Scores of the test images, and how many of them a threshold calibrated on a tenth of the training images calls strange."""
    keras.utils.set_random_seed(0)
    l2, latents = keras.regularizers.L2(1e-6), (settings.latent_size,)
    autoencoder = RegularizedAutoencoder(
        networks.mlp((28, 28, 1), latents, hidden=(256,), kernel_regularizer=l2),
        networks.mlp(
            latents, (28, 28, 1), hidden=(256,), kernel_regularizer=l2, output_activation="sigmoid"
        ),
        seed=0,
    )
    held_out = len(train) // 10
    autoencoder.compile("adam", loss="mse")
    autoencoder.fit(train[held_out:], batch_size=128, epochs=settings.epochs, verbose=0)
    autoencoder.calibrate(train[:held_out], settings.quantile)
    return autoencoder.score(test).numpy(), autoencoder.is_anomaly(test).numpy()


def main(settings: Settings):
    """Compare and print."""
    splits = []
    for split in data.load("mnist_mini", batch_size=1000, labels=True):
        x, y = zip(*split.as_numpy_iterator(), strict=True)
        splits.append((np.concatenate(x), np.concatenate(y)))
    (train_x, train_y), (test_x, test_y) = splits
    names = ("autoencoder", "PCA", "isolation forest")
    rows = []
    print(f"left out  {'  '.join(names)}  strangers caught  normal refused", flush=True)
    for digit in settings.digits:
        train, stranger = train_x[train_y != digit], test_y == digit
        flat, flat_test = train.reshape(len(train), -1), test_x.reshape(len(test_x), -1)
        scores, caught = autoencoder_scores(train, test_x, settings)
        pca = PCA(settings.latent_size, random_state=0).fit(flat)
        pca_scores = np.mean(
            (flat_test - pca.inverse_transform(pca.transform(flat_test))) ** 2, axis=1
        )
        forest_scores = -IsolationForest(random_state=0).fit(flat).score_samples(flat_test)
        areas = [roc_auc_score(stranger, of) for of in (scores, pca_scores, forest_scores)]
        rows.append(
            {"digit": digit, "auc": dict(zip(names, np.round(areas, 4).tolist(), strict=True))}
        )
        shares = f"{caught[stranger].mean():16.1%}  {caught[~stranger].mean():14.1%}"
        print(
            f"{digit:8}  {areas[0]:11.3f}  {areas[1]:.3f}  {areas[2]:16.3f}  {shares}", flush=True
        )
    mean = {name: float(np.mean([row["auc"][name] for row in rows])) for name in names}
    print(
        f"{'mean':>8}  {mean['autoencoder']:11.3f}  {mean['PCA']:.3f}  {mean['isolation forest']:16.3f}"
    )
    if settings.output:
        settings.output.write_text(json.dumps({"mean": mean, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
