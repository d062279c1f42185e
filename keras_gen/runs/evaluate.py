"""Functions for finished training runs.

The functions are `sample`, `impute`, `score`, `evaluate`, `audit`, `fit_density` and `export`. The
command of `keras-gen` with the same name calls the function. For instance, `keras-gen fit-density`
calls `fit_density`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_gen import evaluation, serving
from keras_gen._columns import decode_array, modeled_columns
from keras_gen._files import PathLike, atomic_write
from keras_gen.data import as_arrays
from keras_gen.distributions import Prior
from keras_gen.evaluation import anomalies
from keras_gen.evaluation import tables as table_evaluation
from keras_gen.evaluation.figures import are_images, save_grid, save_matrix
from keras_gen.runs import tables
from keras_gen.runs.folder import RunFolder
from keras_gen.runs.new_examples import new_examples
from keras_gen.runs.recipes import RunConfig
from keras_gen.runs.recipes.recipe import adam, latent_density
from keras_gen.runs.report import write_report
from keras_gen.runs.train import load_data

_MOST_TRAINING_ROWS = 50_000  # largest numbers of rows that `evaluate` uses
_MOST_TEST_ROWS = 2000
_FEWEST_TEST_ROWS = 10
_FEWEST_GENERATED_ROWS = 1000
_SCORED_TOGETHER = 256
_HEAT_MAP_HEIGHT = 128  # smaller images are enlarged to about this height, in pixels


def sample(
    run: PathLike,
    num_samples: int = 100,
    seed: int = 0,
    output: PathLike | None = None,
    given: Sequence[str] = (),
) -> pathlib.Path:
    """Generate samples with the model of a training run, and write the samples to a file.

    Images are written as one PNG file with a grid of all samples. Rows of a table are written as a
    table with the column names, categories, units and decimal places of the training table. Other
    samples are written as a NumPy array `[num_samples, *data_shape]`. If `output` ends in `.npy`,
    all kinds of samples are written as such an array.

    Args:
        run: Folder of the training run, such as `runs/vae`.
        num_samples: Number of samples. Default: 100.
        seed: Seed of the samples. Default: 0.
        output: Path of the file. Default: a file in the folder of the run, which is `samples.png`
            for images, `samples.csv` for tables, and `samples.npy` for other data. A table can also
            be written as .tsv, .parquet or .xlsx.
        given: Entries that each generated row of a table must have, as texts `NAME=VALUE`, such as
            `["age=50", "smoker=yes"]`. The model samples all other entries, conditional on these
            entries. Default: no given entries.

    Returns:
        Path of the file.

    Raises:
        ValueError: If the run is not finished, or if the model cannot generate samples. If `given`
            is not empty, but the model is not a VAE of a table. If a text in `given` is invalid. If
            the model generates rows of a table, and `output` has an unsupported suffix.
    """
    folder = RunFolder(run)
    model: Any = folder.load_model()
    if model.columns:
        path = folder.samples_file(suffix=".csv") if output is None else pathlib.Path(output)
        return _sample_rows(model, num_samples, seed, path, given)
    if given:
        raise ValueError(
            f"`given` is only for models of tables. Received: given={list(given)} for {folder.path}"
            ", which is a model of other data. Omit `given`."
        )
    samples = np.asarray(evaluation.generate_samples(model, num_samples, seed))
    if output is None:
        path = folder.samples_file(suffix=".png" if are_images(samples) else ".npy")
    else:
        path = pathlib.Path(output)
    if are_images(samples) and not _is_array_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_grid(path, samples)
    else:
        _save_array(path, samples)
    return path


def _is_array_file(path: pathlib.Path) -> bool:
    return path.suffix.lower() == ".npy"


def _save_array(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # given a path, NumPy would append .npy to another suffix
        np.save(file, array)


def _sample_rows(
    model: Any, num_samples: int, seed: int, path: pathlib.Path, given: Sequence[str]
) -> pathlib.Path:
    """Write generated rows of a table to a file."""
    if not _is_array_file(path):
        tables.check_output(path)
    if given:
        _check_imputes(model, "given")
        row = tables.parse_given(model.columns, given)
        rows = model.impute(row, num_imputations=num_samples, seed=seed)[:, 0]
    else:
        rows = np.asarray(model.generate(num_samples, seed=seed))
    if _is_array_file(path):
        _save_array(path, rows)
    else:
        tables.write_frame(path, decode_array(model.columns, rows))
    return path


def _check_imputes(model: Any, argument: str) -> None:
    """Raise a `ValueError` if a model is not a VAE of a table.

    Args:
        model: The model.
        argument: Name of the function or argument that needs imputation, for the error message.
    """
    if not model.columns or not hasattr(model, "impute"):
        what = "a table" if model.columns else "other data"
        raise ValueError(
            f"`{argument}` needs a VAE of a table. Received: a {type(model).__name__} of {what}. "
            "Train a VAE on a table: `keras-gen train vae --data FILE`."
        )


@dataclasses.dataclass(frozen=True)
class Imputed:
    """The result of `impute`: the paths of the new files, and how many entries were filled in."""

    files: list[pathlib.Path]
    """The completed tables, one per imputation."""
    counts: dict[str, int]
    """Number of filled entries of each column."""
    rows: int
    """Number of rows of the table."""

    def __str__(self) -> str:
        """Return one line per column, and the paths of the files."""
        width = max(map(len, self.counts))
        lines = [f"Filled entries in {self.rows:,} rows:"]
        lines += [f"  {name:<{width}}  {count:,}" for name, count in self.counts.items()]
        return "\n".join([*lines, *map(str, self.files)])


def impute(
    run: PathLike,
    data: PathLike,
    output: PathLike,
    num_imputations: int | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> Imputed:
    """Fill in the missing entries of a table, and write the completed table.

    The function does not change observed entries, and it does not change columns that the model
    does not use. The order of the rows, the header and the separator also stay the same.

    Args:
        run: Folder of a training run that trained a VAE on a table.
        data: File of the table with missing entries. The table must contain all columns that the
            model uses.
        output: File of the completed table. If `num_imputations` is given and `output` is
            `NAME.csv`, the files are `NAME-1.csv`, `NAME-2.csv`, …
        num_imputations: Number of completed tables. The missing entries are sampled separately for
            each table. Default: one table without random entries. In this table, a missing number
            is replaced by its mean given the observed entries of the row. The mean of a count is
            rounded. A missing category is replaced by the most probable category, or in an ordinal
            column by the median category.
        num_samples: Number of samples of the latents per row. Default: 1000.
        seed: Seed of the samples. Default: 0.

    Returns:
        An `Imputed`: the paths of the new files, and the number of filled entries per column.

    Raises:
        ValueError: If the run is not finished, or if its model is not a VAE of a table. Also if a
            column that the model uses is not in `data`, or if an entry is invalid. For an invalid
            entry, the message names the line and the column.
    """
    model: Any = RunFolder(run).load_model()
    _check_imputes(model, "impute")
    output = pathlib.Path(output)
    file = tables.RowsFile(tables.source_of(data), model.columns)
    complete = model.impute(
        file.array, num_samples=num_samples, num_imputations=num_imputations, seed=seed
    )
    if num_imputations is None:
        file.write(output, complete)
        files = [output]
    else:
        files = []
        for number, rows in enumerate(complete, 1):
            files.append(output.with_name(f"{output.stem}-{number}{output.suffix}"))
            file.write(files[-1], rows)
    missing = np.isnan(file.array).sum(axis=0)
    counts = {column.name: int(n) for column, n in zip(file.modeled, missing, strict=True)}
    return Imputed(files, counts, len(file.array))


def score(
    run: PathLike, data: PathLike, output: PathLike, heat_maps: PathLike | None = None
) -> pathlib.Path:
    """Compute the anomaly scores of new examples, and write a table of the scores.

    The first column identifies the example. For a table, this column is `row`, counted from 1. For
    an `.npz` file, it is `index`, counted from 0. For a folder of images, it is `file`, the path of
    the image relative to the folder. The column `score` contains the anomaly scores, where higher
    is more anomalous. If the model has a threshold, the column `anomaly` is True for each score
    above the threshold. For a model of a table, there is one more column `score_NAME` per column
    NAME that the model uses. It contains how much the entry in the column NAME adds to the score.

    Args:
        run: Folder of a training run that trained a VAE or an autoencoder.
        data: A table, an `.npz` file with the array `x`, or a folder that contains images, also in
            subfolders.
        output: File of the table of scores: .csv, .tsv, .parquet or .xlsx.
        heat_maps: Folder for one PNG file per image. From left to right, the file shows the image,
            its reconstruction and its heat map. In the heat map, a brighter pixel adds more to the
            score. The name of the PNG file is the name of the image file, or the index of the image
            in `data`, followed by `.png`. Default: no heat maps.

    Returns:
        Path of the table of scores.

    Raises:
        ValueError: If the run is not finished. If the model has no anomaly score, is conditional,
            or was trained with `binarize=True`. If the model cannot process the data, for instance
            because of their shape. If `output` has an unsupported suffix. If `heat_maps` is given,
            although the examples are not images or the score is not a sum over the pixels.
    """
    import pandas

    folder = RunFolder(run)
    model: Any = folder.load_model()
    path = tables.check_output(output)
    if not hasattr(model, "score_per_feature"):
        raise ValueError(
            "`score` needs a VAE or an autoencoder. Received: the run of a "
            f"{type(model).__name__}, {run}."
        )
    if model.num_classes:
        raise ValueError(
            "`score` needs a model that does not depend on labels. Received: the run of a "
            f"conditional model, {run}. Use `model.score(x, labels)` in Python."
        )
    if model.columns:
        x = tables.RowsFile(tables.source_of(data), model.columns).array
        frame = pandas.DataFrame({"row": np.arange(1, len(x) + 1)})
        starts = range(0, len(x), _SCORED_TOGETHER)
        batches = iter([x[start : start + _SCORED_TOGETHER] for start in starts])
    else:
        if folder.config_file.is_file() and folder.read_config().binarize:
            raise ValueError(
                "`score` needs a model that was trained with binarize=False. Received: the run "
                f"{run}, with binarize=True. In Python, use `model.score(x)` with pixels of 0 "
                "and 1."
            )
        name, examples, batches = new_examples(data, model.data_shape)
        frame = pandas.DataFrame({name: examples})
    if heat_maps is not None and (
        model.columns or not are_images(np.empty((1, *model.data_shape)))
    ):
        raise ValueError(
            f"`heat_maps` is only for images. Received: {run}, the run of a model of other data. "
            "Omit `heat_maps`."
        )
    scores = []
    per_feature = []
    compute = anomalies.compiled_scores(model)
    examples = iter(frame.iloc[:, 0])
    for batch in batches:
        of_batch, parts = compute(batch)
        scores.append(of_batch.numpy())
        if model.columns:
            per_feature.append(parts.numpy())
        if heat_maps is not None:
            _save_heat_maps(model, heat_maps, itertools.islice(examples, len(batch)), batch, parts)
    frame["score"] = np.concatenate(scores)
    if model.threshold is not None:
        frame["anomaly"] = np.asarray(model.exceeds(frame["score"].to_numpy(np.float32)))
    if model.columns:
        per_column = np.concatenate(per_feature)
        for index, column in enumerate(modeled_columns(model.columns)):
            frame[f"score_{column.name}"] = per_column[:, index]
    tables.write_frame(path, frame)
    return path


def _save_heat_maps(
    model: Any,
    folder: PathLike,
    examples: Iterable[Any],
    images: np.ndarray,
    per_feature: tf.Tensor | None,
) -> None:
    """Write one PNG file per image: the image, its reconstruction and its heat map.

    Args:
        model: A model that reconstructs images.
        folder: Folder of the PNG files.
        examples: Name of each PNG file without `.png`.
        images: Images `[batch, height, width, channels]`.
        per_feature: How much each pixel adds to the anomaly score, in the shape of `images`. None
            if the score is not a sum over the pixels.

    Raises:
        ValueError: If `per_feature` is None, or if the model does not reconstruct images.
    """
    if per_feature is None or not hasattr(model, "reconstruct"):
        raise ValueError(
            "`heat_maps` needs a model that reconstructs images, and whose score is a sum over the "
            f"pixels. Received: a {type(model).__name__}. Omit `heat_maps`, or train with a loss "
            "such as 'mse'."
        )
    reconstructions = model.reconstruct(images).numpy()
    explained = anomalies.explained_images(images, reconstructions, per_feature.numpy())
    zoom = max(1, _HEAT_MAP_HEIGHT // images.shape[1])
    for example, rows in zip(examples, explained.swapaxes(0, 1), strict=True):
        path = pathlib.Path(folder, f"{example}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_grid(path, rows, columns=len(rows), zoom=zoom)


def evaluate(
    run: PathLike, num_samples: int = 250, seed: int = 0, extractor: PathLike | None = None
) -> evaluation.Evaluation:
    """Evaluate the model of a training run on the test data of the run.

    The function also writes `evaluation.json`, `report.html` and figures into the folder of the
    run. The figures show the latents and, if the model computes anomaly scores, the examples with
    the highest scores. For a table, they also show the columns and their associations. At most 2000
    test rows of a table are used.

    Args:
        run: Folder of the training run, such as `runs/vae`.
        num_samples: Number of posterior samples with which log p(x) of each test example is
            estimated. Default: 250. Models that cannot estimate log p(x) ignore this number.
        seed: Seed of all samples. Default: 0.
        extractor: File `*.keras` of a network that computes features of images, with which the
            samples are compared with real images. `scripts/train_extractor.py` writes such files.
            Default: the digit classifier of keras_gen for grey images of 28×28 pixels. Other
            samples are then not compared.

    Returns:
        The scores, an `evaluation.Evaluation`.

    Raises:
        ValueError: If the run is not finished. If the data of the run are missing, or do not have
            the shape that they had in the training. If a table has fewer than 10 test rows. If the
            extractor is not for images of the shape of the data, or if the data are a table.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    model = folder.load_model()
    network = None
    if extractor is not None:
        if model.columns:
            raise ValueError(
                "`extractor` is only for images. Received: "
                f"extractor={str(extractor)!r} for the run of a table. Omit `extractor`."
            )
        network = evaluation.load_extractor(extractor)
        network.check_shape(model.data_shape)
    if model.columns:
        return _evaluate_table(folder, config, model, num_samples, seed)
    train_data, test_data = _load_with_labels_if_any(config)
    test, labels = as_arrays(test_data)
    real = test
    split = "test"
    if config.binarize and model.generates_means:
        # The model was trained on binary pixels, but generates probabilities, which are grey
        # values. Therefore compare its samples with the images before binarization.
        train_data, test_data = load_data(dataclasses.replace(config, binarize=False))
        real, _ = as_arrays(test_data)
        split = "test in grey values"
    other_real, _ = as_arrays(train_data, len(test))
    result = evaluation.summarize(
        model,
        test,
        labels if model.num_classes else None,
        other_real,
        num_samples,
        extractor=network,
        seed=seed,
        real=real,
        split=split,
    )
    result.save(folder.evaluation_file)
    names = folder.read_classes()
    evaluation.save_latent_figures(model, folder.path, test, labels, seed, names)
    _save_anomalies(model, folder, test, labels if model.num_classes else None)
    write_report(folder)
    return result


def _save_anomalies(
    model: Any, folder: RunFolder, test: np.ndarray, labels: np.ndarray | None = None
) -> None:
    """Write a figure of the test examples with the highest anomaly scores.

    If the model computes no anomaly scores, nothing is written.

    Args:
        model: The model of the run.
        folder: Folder of the run.
        test: Test examples, `[n, *data_shape]`.
        labels: Labels `[n]` if the model is conditional, otherwise None.
    """
    if hasattr(model, "score_and_features"):
        path = folder.anomalous_rows_file if model.columns else folder.anomalies_file
        anomalies.save_anomalies(model, path, test, labels)


def _evaluate_table(
    folder: RunFolder, config: RunConfig, model: Any, num_samples: int, seed: int
) -> evaluation.Evaluation:
    """Evaluate the model of a table, and write the scores, the figures and the report."""
    train_data, test_data = load_data(config)
    train, _ = as_arrays(train_data, _MOST_TRAINING_ROWS)
    test, _ = as_arrays(test_data, _MOST_TEST_ROWS)
    if len(test) < _FEWEST_TEST_ROWS:
        raise ValueError(
            f"Expected at least {_FEWEST_TEST_ROWS} held-out rows. A tenth of the rows of "
            f"{config.data} is held out. Received: {len(test)} held-out rows. Use a table with at "
            f"least {10 * _FEWEST_TEST_ROWS} rows."
        )
    result = evaluation.summarize(model, test, num_samples=num_samples, seed=seed)
    label = None
    if config.label is not None:
        label, _ = tables.label_column(model.columns, config.label)
    number = max(_FEWEST_GENERATED_ROWS, len(train))
    generated = np.asarray(model.generate(number, seed=seed))
    found = [table_evaluation.table_scores(model.columns, generated, train, test, label, seed)]
    if hasattr(model, "impute"):
        found.append(table_evaluation.imputation_scores(model, model.columns, train, test, seed))
    for scores, comments in found:
        result.scores.extend(scores)
        result.comments.extend(comments)
    result.save(folder.evaluation_file)
    table_evaluation.save_columns(folder.columns_file, model.columns, train, generated)
    table_evaluation.save_associations(folder.associations_file, model.columns, train, generated)
    labels = None if label is None else np.nan_to_num(test[:, label], nan=-1).astype(int)
    evaluation.save_latent_figures(model, folder.path, test, labels, seed)
    _save_anomalies(model, folder, test)
    write_report(folder)
    return result


def _load_with_labels_if_any(config: RunConfig) -> Any:
    """Load the training and test data of a run, with labels if the data have labels."""
    try:
        return load_data(config, labels=True)
    except ValueError:
        return load_data(config)


def audit(
    run: PathLike, epochs: int = 10, num_seeds: int = 3, images: int = 100, num_samples: int = 200
) -> evaluation.IndependenceAudit:
    """Measure whether a full-covariance posterior improves a VAE with a diagonal posterior.

    For each seed, the function makes two copies of the trained VAE, and continues their training.
    One copy keeps its diagonal posterior. The other copy gets a full-covariance posterior. The
    docstring of `evaluation.audit_independence` explains the method. The function writes
    `audit.json`, `correlations.png` and `report.html` into the folder of the run. The model of the
    run does not change.

    Args:
        run: Folder of a training run that trained a VAE with a diagonal posterior.
        epochs: Number of further epochs for each copy. Default: 10. The learning-rate schedule of
            the run starts again and covers these epochs.
        num_seeds: Number of seeds, at least 1. Default: 3.
        images: Number of test examples, at least 2. For each of them, the audit optimizes the
            parameters of a separate posterior, without an encoder. Default: 100.
        num_samples: Number of posterior samples with which log p(x) of each test example is
            estimated. Default: 200.

    Returns:
        An `evaluation.IndependenceAudit`: the differences between the two copies, and the gaps
        between log p(x) and the ELBO, in nats.

    Raises:
        ValueError: If the run is not finished, or if the model is not a VAE with a diagonal
            posterior.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    model: Any = folder.load_model()
    learning_rate = getattr(config, "learning_rate", None)
    if not model.has_log_likelihood or learning_rate is None:
        raise ValueError(
            "`run` must be the folder of the run of a VAE with the setting `learning_rate`. "
            f"Received: {folder.path}, the run of a {type(model).__name__}."
        )
    train_data, test_data = load_data(config)
    test, labels = as_arrays(test_data)
    steps = epochs * len(train_data)
    model.compile(adam(config, steps, learning_rate), objective=model.objective)
    result = evaluation.audit_independence(
        model,
        lambda: load_data(config)[0],
        test,
        labels,
        epochs=epochs,
        seeds=tuple(range(num_seeds)),
        images=images,
        num_samples=num_samples,
    )
    content = {**dataclasses.asdict(result), "words": str(result).split("\n")}
    with atomic_write(folder.audit_file) as unfinished:
        text = json.dumps(content, indent=1, default=np.ndarray.tolist) + "\n"
        unfinished.write_text(text, encoding="utf-8")
    save_matrix(folder.correlations_file, result.correlations)
    write_report(folder)
    return result


def fit_density(
    run: PathLike,
    density: Literal["mixture", "flow"] = "mixture",
    num_components: int | None = None,
) -> Prior:
    """Fit a density to the latents of a trained model.

    When the model generates samples, it then samples latents from this density. The density is
    fitted to the latents of the training data. The function saves the model with the density in the
    folder of the run, and writes the kind of density into `config.yaml`. It removes
    `evaluation.json`, because this file contains scores of samples without the density.

    Args:
        run: Folder of a training run that trained an autoencoder or a VAE.
        density: `"mixture"` for a mixture of normal distributions, or `"flow"` for a masked
            autoregressive flow. Default: `"mixture"`.
        num_components: Number of components of the mixture. Default: the number with the lowest
            Bayesian information criterion (BIC).

    Returns:
        The fitted density.

    Raises:
        ValueError: If the run is not finished. If its model is conditional, or is neither an
            autoencoder nor a VAE. If `num_components` is given for a flow.
    """
    folder = RunFolder(run)
    config: Any = folder.read_config()
    model: Any = folder.load_model()
    if not hasattr(model, "fit_latent_density") or not hasattr(config, "latent_density"):
        raise ValueError(
            "`run` must be the folder of the run of an autoencoder or a VAE. Received: "
            f"{folder.path}, the run of a {type(model).__name__}."
        )
    if density == "flow" and num_components is not None:
        raise ValueError(
            "`num_components` must be None for density='flow', because a flow has no components. "
            f"Received: num_components={num_components!r}."
        )
    train_data, _ = load_data(config)
    unfitted = latent_density(density, config.latent_size, num_components)
    model.fit_latent_density(train_data, unfitted)
    with folder.lock():
        folder.write_config(dataclasses.replace(config, latent_density=density))
        folder.save_model(model)
        folder.evaluation_file.unlink(missing_ok=True)
        write_report(folder)
    fitted: Prior = model.latent_distribution
    return fitted


def export(run: PathLike, base: PathLike | None = None, png: bool = False) -> pathlib.Path:
    """Publish the model of a training run as the next version of a SavedModel.

    Args:
        run: Folder of the training run, such as `runs/vae`.
        base: Folder that contains the versions of the model. Default: `<savedmodels>/<name>`, where
            `savedmodels` and `name` are settings in the `config.yaml` of the run. If the run has no
            `config.yaml`, the default is `savedmodels/<name of the run folder>`.
        png: Whether to add a signature `NAME_bytes` for each signature `NAME` of the SavedModel. A
            signature is a function that the server offers. The added signatures take and return
            images as the bytes of PNG files. Default: False.

    Returns:
        Path of the version.

    Raises:
        ValueError: If the run is not finished, or if `png` is True but the data are not images.
        PublishError: If the SavedModel cannot be written or verified.
    """
    folder = RunFolder(run)
    model = folder.load_model()
    if base is None and folder.config_file.is_file():
        config = folder.read_config()
        base = config.savedmodels / config.name
    elif base is None:
        base = pathlib.Path("savedmodels") / folder.path.name
    card = folder.training_card()
    return serving.publish(model, base, png, card=card, class_names=folder.read_classes())
