"""Compare an ensemble of small autoencoders with the standard detectors on the ODDS data sets.

    python scripts/reproduce/odds.py --data-dir shared/odds

The data sets are `.mat` files of http://odds.cs.stonybrook.edu: rows `X`, and labels `y` that are 1
for anomalies. The protocol is that of pyod: 60 % of the rows are for training, and the numbers are
standardized with the mean and the standard deviation of the training rows. The labels are not used
for training, so the training rows contain anomalies. The score is the area under the ROC curve
(AUROC) on the other 40 % of the rows, higher is better.

The detector is one `RegularizedAutoencoder` of `members` small autoencoders that are independent of
each other. An example of this model is a matrix `[members, columns]` with one row per member. Each
member is trained on its own random subset of the rows, so that a cluster of anomalies is a few rows
only, or none, in most subsets. All data sets use the same settings.
"""

import dataclasses
import pathlib
import time

import keras
import numpy as np
import results
import scipy.io
import tensorflow as tf
import tyro
from keras import layers
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from keras_gen import RegularizedAutoencoder

TABLE = "odds"


@dataclasses.dataclass
class Settings:
    """Which data sets are compared, and the settings of the ensemble."""

    data_dir: pathlib.Path
    """Folder of the `.mat` files."""
    sets: tuple[str, ...] = ()
    """Names of the data sets. If empty, all files of the folder."""
    splits: int = 10
    """Number of splits into training and test rows per data set."""
    members: int = 48
    """Number of autoencoders in the ensemble."""
    rows: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Sizes of the members' subsets of the training rows. Members take turns."""
    latents: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of latents. Members take turns."""
    hidden: int = 48
    """Number of units of the hidden layer of each encoder and each decoder."""
    steps: int = 400
    """Number of training steps."""
    batch_size: int = 32
    """Number of rows per member and step."""
    learning_rate: float = 1e-2
    """Initial learning rate of Adam, with cosine decay to 0."""
    clip: float = 0.05
    """At scoring, latents are clipped to the quantiles `clip` and 1 − `clip` of the training rows.
    0 means no clipping."""


class Ensemble:
    """An ensemble of small autoencoders that scores how anomalous a row is.

    The residuals r of a member give the score Σ_d log(1 + r_d²/σ_d²). This is −log p of a Cauchy
    distribution, up to a constant. σ_d² is the member's mean squared residual of column d. The sum
    is divided by its median over the training rows, and then averaged over the members.
    """

    def __init__(self, settings, seed):
        self.settings = settings
        self.seed = seed

    def fit(self, rows):
        """Train on standardized rows `[n, columns]`."""
        keras.utils.set_random_seed(self.seed)
        rows = rows.astype("float32")
        members = np.arange(self.settings.members)
        sizes = np.array(self.settings.rows)[members % len(self.settings.rows)]
        latents = np.array(self.settings.latents)
        latents = latents[members // len(self.settings.rows) % len(latents)]
        # Fewer latents than columns, because the identity reconstructs every row.
        latents = np.minimum(latents, max(1, rows.shape[1] - 1))
        self.model = autoencoders(rows.shape[1], latents, self.settings.hidden)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.settings.learning_rate, self.settings.steps
        )
        self.model.compile(
            keras.optimizers.Adam(schedule), loss="mse", steps_per_execution=50, jit_compile=False
        )
        self.model.fit(self._batches(rows, sizes), verbose=0)
        # At most 1,000 training rows determine the scales of the score.
        reference = np.random.default_rng(self.seed).permutation(rows)[:1000]
        z = np.concatenate([self.model.encode(part) for part in self._repeated(reference)])
        self.low = np.quantile(z, self.settings.clip, axis=0)
        self.high = np.quantile(z, 1 - self.settings.clip, axis=0)
        squares = [part**2 for part in self._residuals(reference)]
        self.variance = np.mean(np.concatenate(squares), axis=0) + 1e-2
        self.median = np.median(self._member_scores(reference), axis=0)
        return self

    def score(self, rows):
        """Return the anomaly score of each row, `[n]`. Higher is more anomalous."""
        return np.mean(self._member_scores(rows.astype("float32")) / self.median, axis=1)

    def _batches(self, rows, sizes):
        """Return a data set of batches `[batch, members, columns]` of the members' subsets."""
        random = np.random.default_rng(self.seed)
        drawn = self.settings.steps * self.settings.batch_size
        indices = np.empty((drawn, len(sizes)), np.int32)
        for member, size in enumerate(sizes):
            # No subset has more than 80 % of the rows, so that the members differ.
            size = min(size, int(0.8 * len(rows)))
            subset = random.choice(len(rows), size, replace=False)
            indices[:, member] = random.choice(subset, drawn)
        batches = tf.data.Dataset.from_tensor_slices(indices).batch(self.settings.batch_size)
        return batches.map(lambda index: tf.gather(rows, index))

    def _repeated(self, rows):
        """Yield parts of `rows`, repeated for each member, `[n, members, columns]`."""
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500, None]
            yield np.repeat(part, self.settings.members, axis=1)

    def _residuals(self, rows):
        """Yield x − x̂ of parts of `rows`, `[n, members, columns]`."""
        for x in self._repeated(rows):
            z = np.clip(self.model.encode(x), self.low, self.high)
            yield x - self.model.decode(z).numpy()

    def _member_scores(self, rows):
        """Return the score of each row for each member, `[n, members]`."""
        parts = self._residuals(rows)
        return np.concatenate([np.log1p(part**2 / self.variance).sum(2) for part in parts])


def autoencoders(columns, latents, hidden):
    """Build one model of independent autoencoders, one per entry of `latents`."""
    members = len(latents)
    # Keras takes the first axis of a kernel [members, in, out] for a part of the fan-in.
    initializer = keras.initializers.VarianceScaling(members, "fan_avg", "uniform")

    def dense(units, activation=None):
        return layers.EinsumDense(
            "bmi,mio->bmo",
            (members, units),
            activation=activation,
            bias_axes="mo",
            kernel_initializer=initializer,
        )

    inputs = keras.Input((members, columns))
    z = dense(int(max(latents)))(dense(hidden, "tanh")(inputs))
    mask = np.arange(max(latents)) < np.asarray(latents)[:, None]
    # A member with fewer latents than others has zeros in their place.
    encoder = keras.Model(inputs, layers.Rescaling(mask.astype("float32").tolist())(z))
    inputs = keras.Input(encoder.output_shape[1:])
    decoder = keras.Model(inputs, dense(columns)(dense(hidden, "tanh")(inputs)))
    return RegularizedAutoencoder(encoder, decoder, seed=0)


class IsolationTrees:
    """The isolation forest of scikit-learn with its default settings."""

    def __init__(self, seed):
        self.forest = IsolationForest(random_state=seed)

    def fit(self, rows):
        """Fit the forest."""
        self.forest.fit(rows)
        return self

    def score(self, rows):
        """Return the anomaly scores."""
        return -self.forest.score_samples(rows)


class PrincipalComponents:
    """Squared reconstruction error of the components that explain 70 % of the variance."""

    def fit(self, rows):
        """Fit the components."""
        self.pca = PCA(0.7, svd_solver="full").fit(rows)
        return self

    def score(self, rows):
        """Return the anomaly scores."""
        reconstruction = self.pca.inverse_transform(self.pca.transform(rows))
        return np.sum((rows - reconstruction) ** 2, axis=1)


class Neighbors:
    """Mean distance to the ten nearest training rows."""

    def fit(self, rows):
        """Store the rows."""
        self.neighbors = NearestNeighbors(n_neighbors=10).fit(rows)
        return self

    def score(self, rows):
        """Return the anomaly scores."""
        return self.neighbors.kneighbors(rows)[0].mean(axis=1)


class LocalDensity:
    """The local outlier factor of scikit-learn with 20 neighbors."""

    def fit(self, rows):
        """Store the rows."""
        self.lof = LocalOutlierFactor(20, novelty=True).fit(rows)
        return self

    def score(self, rows):
        """Return the anomaly scores."""
        return -self.lof.score_samples(rows)


def detectors(settings, seed):
    """Return the detectors that are compared, by name."""
    return {
        "autoencoder_ensemble": Ensemble(settings, seed),
        "isolation_forest": IsolationTrees(seed),
        "pca": PrincipalComponents(),
        "knn": Neighbors(),
        "lof": LocalDensity(),
    }


def compare(settings, name):
    """Compare the detectors on all splits of one data set, and return the results."""
    table = scipy.io.loadmat(settings.data_dir / f"{name}.mat")
    x = table["X"].astype("float64")
    y = table["y"].ravel().astype(int)
    result = {"set": name, "rows": len(x), "columns": x.shape[1], "anomalies": int(y.sum())}
    for split in range(settings.splits):
        train, test, _, labels = train_test_split(x, y, test_size=0.4, random_state=split)
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
        for detector, model in detectors(settings, split).items():
            start = time.perf_counter()
            model.fit(train)
            fitted = time.perf_counter()
            auroc = roc_auc_score(labels, model.score(test))
            scored = time.perf_counter()
            entry = result.setdefault(
                detector, {"auroc": [], "fit_seconds": [], "score_seconds": []}
            )
            entry["auroc"].append(round(float(auroc), 4))
            entry["fit_seconds"].append(round(fitted - start, 2))
            entry["score_seconds"].append(round(scored - fitted, 2))
    return result


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    names = list(detectors(Settings(pathlib.Path()), 0))
    lines = []
    for row in found:
        cells = [results.spread(row[name]["auroc"], 3) for name in names]
        lines.append([row["set"], row["rows"], row["columns"], *cells])
    means = []
    seconds = []
    for name in names:
        means.append(f"{np.mean([np.mean(row[name]['auroc']) for row in found]):.4f}")
        fit = np.mean([np.mean(row[name]["fit_seconds"]) for row in found])
        score = np.mean([np.mean(row[name]["score_seconds"]) for row in found])
        seconds.append(f"{fit:.1f} / {score:.1f}")
    lines.append(["**mean**", "", "", *means])
    lines.append(["seconds to fit / to score", "", "", *seconds])
    ours = [np.mean(row[names[0]]["auroc"]) for row in found]
    forest = [np.mean(row["isolation_forest"]["auroc"]) for row in found]
    better = sum(np.greater(ours, forest))
    leads = np.subtract(ours, forest)
    most = found[int(np.argmax(leads))]["set"]
    full, lead = leads.mean(), np.delete(leads, np.argmax(leads)).mean()
    head = ["set", "rows", "columns", *[name.replace("_", " ") for name in names]]
    return f"""`python scripts/reproduce/odds.py`: AUROC on {len(found)} of the 17 ODDS sets, mean ±
standard deviation over {found[0]["splits"]} splits, higher is better. The training rows are
unlabelled and contain the anomalies. One setting is used for all sets. The ensemble is better than
the isolation forest on {better} of {len(found)} sets. The published means of pyod on all 17 sets
are: isolation forest 0.815, autoencoder 0.800, kNN 0.776, PCA 0.774. The setting was chosen on the
first two splits of these sets, so that only other sets can confirm the result. Without the set
`{most}`, the mean lead over the isolation forest is {lead:+.3f} instead of {full:+.3f}.
The seconds were measured on a machine with other work, so compare only their order of magnitude.

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Compare the missing data sets, and write the table."""
    names = settings.sets or sorted(path.stem for path in settings.data_dir.glob("*.mat"))
    cases = {name: (settings, name) for name in names}
    protocol = dataclasses.asdict(settings)
    del protocol["data_dir"], protocol["sets"]
    # JSON has lists only.
    protocol |= {"rows_per_member": list(protocol.pop("rows")), "latents": list(settings.latents)}
    results.complete(TABLE, cases, compare, **protocol)
    results.write_section("Anomalies in tables", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
