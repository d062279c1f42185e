"""Compare imputation by a VAE with the imputers of scikit-learn, on four tables.

    python scripts/reproduce/imputation.py --tables shared/tables

Two protocols:

- `cancer`: the breast cancer data of scikit-learn (569 rows, 30 columns), standardized. Half of the
  entries are removed at random. The score is the mean squared error of the removed entries. The
  authors of MIWAE, a VAE for incomplete data, report 0.287 in their notebook (Mattei & Frellsen
  2019, arXiv:1812.02633).
- `adult`, `wine`, `breast`: the tables of HI-VAE, a VAE for tables (Nazabal et al. 2020,
  arXiv:1807.03653). Its masks remove 20 % or 50 % of the entries. The error of a column of numbers
  is the root mean squared error divided by the range of the column. The error of a column of
  categories is the share of wrong values. The error of an ordinal column is the mean absolute error
  divided by the number of categories, as in HI-VAE. The score is the mean over the columns.

Each method is fitted to the incomplete table, and fills in that table. No method sees the removed
entries. All tables use the same settings of the VAE. The VAE is that of MIWAE: it maximizes the
importance-weighted bound of the observed entries. The only regularization is a normal prior of each
weight with the standard deviation σ. For n rows, it is equal to an L2 penalty λ‖W‖² with
λ = 1 / (2 n σ²).
"""

import dataclasses
import os
import pathlib
import time
import warnings

import keras
import numpy as np
import pandas as pd
import results
import tensorflow as tf
import tyro
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from keras_gen import VAE, data, distributions, networks, objectives

TABLE = "imputation"
MIXED = ("breast", "wine", "adult")
KINDS = {"count": "real", "pos": "real", "real": "real", "ordinal": "ordinal", "cat": "category"}


@dataclasses.dataclass
class Settings:
    """Which tables are imputed, and how the VAE is trained."""

    tables: pathlib.Path = pathlib.Path("shared/tables")
    """Folder with the subfolders adult, wine and breast of HI-VAE."""
    only: tuple[str, ...] = ("cancer", *MIXED)
    """Tables to impute."""
    masks: int = 5
    """Number of masks per table and fraction of removed entries. A mask says what is removed."""
    latents: int = 10
    """Number of latents."""
    hidden: int = 128
    """Units of each of the two hidden layers, of encoder and decoder."""
    samples: int = 20
    """Samples of z per row in training."""
    steps: int = 5000
    """Training steps."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam, with cosine decay to 0."""
    weight_stddev: float = 1.7
    """Standard deviation σ of the normal prior of each weight."""


@dataclasses.dataclass
class Problem:
    """A table whose removed entries are known.

    Args:
        complete: Entries `[rows, columns]`. Categories are codes from 0.
        removed: Which entries are removed and evaluated, bool `[rows, columns]`.
        unknown: Which entries are not known at all.
        types: `"real"`, `"ordinal"` or `"category"` of each column.
    """

    complete: np.ndarray
    removed: np.ndarray
    unknown: np.ndarray
    types: list[str]

    @property
    def incomplete(self):
        """The entries that the methods receive, NaN where an entry is removed or unknown."""
        return np.where(self.removed | self.unknown, np.nan, self.complete)

    def score(self, imputed):
        """Return the mean error over the columns. See the docstring of this file."""
        errors = []
        for index, kind in enumerate(self.types):
            removed = self.removed[:, index]
            true = self.complete[removed, index]
            found = imputed[removed, index]
            known = self.complete[~self.unknown[:, index], index]
            if kind == "real":
                errors.append(np.sqrt(np.mean((true - found) ** 2)) / np.ptp(known))
            elif kind == "ordinal":
                errors.append(np.mean(np.abs(true - found)) / (np.max(known) + 1))
            else:
                errors.append(np.mean(true != found))
        return float(np.mean(errors))


def cancer(seed):
    """Return the standardized breast cancer data, without half of its entries."""
    x = load_breast_cancer().data
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    removed = np.random.default_rng(seed).random(x.shape) < 0.5
    return Problem(x, removed, np.zeros_like(removed), ["real"] * x.shape[1])


def mixed(folder, share, mask):
    """Return a table of HI-VAE with one of its masks."""
    complete = pd.read_csv(folder / "data.csv", header=None).to_numpy(float)
    types = [KINDS[name] for name in pd.read_csv(folder / "data_types.csv")["type"]]
    for index, kind in enumerate(types):
        if kind != "real":
            _, complete[:, index] = np.unique(complete[:, index], return_inverse=True)
    removed, unknown = np.zeros(complete.shape, bool), np.zeros(complete.shape, bool)
    for name, marks in ((f"Missing{share}_{mask + 1}", removed), ("MissingTrue", unknown)):
        if (folder / f"{name}.csv").exists():
            rows, columns = pd.read_csv(folder / f"{name}.csv", header=None).to_numpy(int).T - 1
            marks[rows, columns] = True
    return Problem(complete, removed & ~unknown, unknown, types)


def impute_by_vae(settings, problem, seed):
    """Fill in the table with a VAE."""
    keras.utils.set_random_seed(seed)
    frame = pd.DataFrame(problem.incomplete, columns=map(str, range(len(problem.types))))
    kinds = {}
    for name, kind in zip(frame, problem.types, strict=True):
        known = np.unique(problem.complete[:, int(name)]).tolist()
        kinds[name] = known if kind == "ordinal" else kind
    table = data.read_table(frame, kinds=kinds, test_fraction=0)
    likelihood = distributions.Columns(table.columns, scale="decoded")
    posterior = distributions.DiagonalNormal(settings.latents)
    # `table.train` contains the rows in another order.
    x = table.from_frame(frame)
    rows, columns = x.shape
    options = {
        "hidden": (settings.hidden, settings.hidden),
        "activation": "tanh",
        "kernel_regularizer": keras.regularizers.L2(0.5 / rows / settings.weight_stddev**2),
    }
    features = networks.ColumnFeatures(table.columns)
    vae = VAE(
        networks.mlp((columns,), (posterior.parameter_size,), features=features, **options),
        networks.mlp((settings.latents,), likelihood.parameter_shape, **options),
        posterior,
        likelihood,
        seed=seed,
    )
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.steps)
    objective = objectives.IWAE(settings.samples)
    vae.compile(keras.optimizers.Adam(schedule), objective=objective, steps_per_execution=20)
    batch_size = 64
    epochs = -(-settings.steps // -(-rows // batch_size))
    vae.fit(x, epochs=epochs, batch_size=batch_size, verbose=0)
    num_samples = 1000 if rows < 10_000 else 200
    imputed = vae.impute(x, num_samples=num_samples, seed=seed).astype(float)
    names = [column.name for column in likelihood.modeled]
    for index, column in enumerate(likelihood.modeled):
        if column.categories:
            values = np.array(column.categories, float)
            imputed[:, index] = values[imputed[:, index].astype(int)]
    result = np.array(problem.complete)
    result[:, [int(name) for name in names]] = imputed
    return result


def impute_by_sklearn(imputer, problem):
    """Fill in the table with an imputer of scikit-learn, with one-hot vectors for categories."""
    incomplete = problem.incomplete
    blocks, widths = [], []
    for index, kind in enumerate(problem.types):
        values = incomplete[:, index]
        if kind != "category":
            blocks.append((values[:, None] - np.nanmean(values)) / np.nanstd(values))
        else:
            categories = np.arange(np.nanmax(problem.complete[:, index]) + 1)
            one_hot = (values[:, None] == categories).astype(float)
            blocks.append(np.where(np.isnan(values)[:, None], np.nan, one_hot))
        widths.append(blocks[-1].shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        filled = imputer.fit_transform(np.concatenate(blocks, axis=1))
    result = np.array(problem.complete)
    for index, block in enumerate(np.split(filled, np.cumsum(widths)[:-1], axis=1)):
        values = incomplete[:, index]
        if problem.types[index] == "category":
            result[:, index] = np.argmax(block, axis=1)
            continue
        result[:, index] = block[:, 0] * np.nanstd(values) + np.nanmean(values)
        if problem.types[index] == "ordinal":
            largest = np.nanmax(problem.complete[:, index])
            result[:, index] = np.clip(np.round(result[:, index]), 0, largest)
    return result


def sklearn_imputers(rows, seed):
    """Return the imputers by name. Large tables get fewer trees and rounds, to end in minutes."""
    large = rows > 10_000
    trees = ExtraTreesRegressor(
        n_estimators=10 if large else 30, min_samples_leaf=10 if large else 1, random_state=seed
    )
    return {
        "mean or mode": SimpleImputer(keep_empty_features=True),
        "BayesianRidge": IterativeImputer(max_iter=20, random_state=seed),
        "ExtraTrees": IterativeImputer(trees, max_iter=2 if large else 5, random_state=seed),
        "KNN": KNNImputer(n_neighbors=10),
    }


def train(settings, name, share, mask):
    """Impute one table with all methods, and return their scores and minutes."""
    folder = settings.tables / name
    problem = cancer(mask) if name == "cancer" else mixed(folder, share, mask)
    methods = {"VAE": lambda: impute_by_vae(settings, problem, mask)}
    for label, imputer in sklearn_imputers(len(problem.complete), mask).items():
        methods[label] = lambda imputer=imputer: impute_by_sklearn(imputer, problem)
    result = {"table": name, "share": share, "mask": mask, "scores": {}, "minutes": {}}
    for label, method in methods.items():
        start = time.perf_counter()
        imputed = method()
        if name == "cancer":
            errors = (imputed - problem.complete)[problem.removed]
            score = float(np.mean(errors**2))
        else:
            score = problem.score(imputed)
        result["scores"][label] = round(score, 4)
        result["minutes"][label] = round((time.perf_counter() - start) / 60, 2)
        print(name, share, mask, label, result["scores"][label], result["minutes"][label])
    return result


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    methods = list(found[0]["scores"])
    lines = []
    for key in sorted({(row["table"] != "cancer", row["table"], row["share"]) for row in found}):
        rows = [row for row in found if (row["table"], row["share"]) == key[1:]]
        scores = {name: [row["scores"][name] for row in rows] for name in methods}
        best = min(methods, key=lambda name: np.mean(scores[name]))
        cells = [
            f"**{results.spread(scores[name], 4)}**"
            if name == best
            else results.spread(scores[name], 4)
            for name in methods
        ]
        minutes = np.mean([row["minutes"]["VAE"] for row in rows])
        lines.append([key[1], f"{key[2]} %", len(rows), *cells, f"{minutes:.1f}"])
    head = ["table", "removed", "masks", *methods, "minutes of the VAE"]
    return f"""`python scripts/reproduce/imputation.py` removes entries of complete tables, and
compares the methods that fill them in. The VAE is the method of this package. The others come
from scikit-learn.

The table shows the error of the filled-in entries. Lower is better. A mask says which entries are
removed, and ± is the standard deviation over masks. Two errors are used:

- `cancer`: the mean squared error of the standardized table. The target is 0.28. MIWAE is a
  VAE for incomplete data, and its authors report 0.287 in their notebook.
- `adult`, `breast`, `wine`: the tables and masks of HI-VAE, a VAE for tables. The error is the
  mean over the columns. For numbers it is the root mean squared error divided by the range of the
  column, and for categories the share of wrong ones.

All methods ran in the same process on one core. ExtraTrees has 30 trees per column and 5 rounds;
for `adult`, which has 32,561 rows, it has 10 trees per column and 2 rounds, to end in minutes. The
settings of the VAE are the same for all tables: {found[0]["latents"]} latents, two hidden layers of
{found[0]["hidden"]} units, {found[0]["steps"]:,} steps, {found[0]["samples"]} samples per row.

{results.markdown(head, lines)}
"""


def main(settings: Settings):
    """Impute the missing cases, and write the table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cases = {}
    for name in settings.only:
        for mask in range(settings.masks):
            for share in (50,) if name == "cancer" else (20, 50):
                cases[f"{name}-{share}-{mask}"] = (settings, name, share, mask)
    protocol = dataclasses.asdict(settings)
    for name in ("tables", "only", "masks"):
        del protocol[name]
    results.complete(TABLE, cases, train, **protocol)
    results.write_section("Imputation of missing entries", table())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(tyro.cli(Settings, description=__doc__))
