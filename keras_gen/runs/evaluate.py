"""Functions for finished runs: `sample`, `evaluate`, `audit` and `export`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from keras_gen import evaluation, serving
from keras_gen._files import PathLike, atomic_write
from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import are_images, save_grid, save_matrix
from keras_gen.runs.folder import RunFolder
from keras_gen.runs.recipes import RunConfig
from keras_gen.runs.recipes.recipe import adam
from keras_gen.runs.report import write_report
from keras_gen.runs.train import load_data


def sample(
    run: PathLike, num_samples: int = 100, seed: int = 0, output: PathLike | None = None
) -> pathlib.Path:
    """Generate samples with the model of a run, and write them to a file.

    Images are written as one PNG file with a grid of all samples. If the samples are not images, or
    if `output` ends in `.npy`, the file contains a NumPy array `[num_samples, *data_shape]`.

    Args:
        run: Folder of the run.
        num_samples: Number of samples. Default: 100.
        seed: Seed of the samples. Default: 0.
        output: Path of the file. Default: `samples.png` for images, and `samples.npy` for other
            data, in the folder of the run.

    Returns:
        Path of the file.

    Raises:
        ValueError: If the run is not finished, or if the model cannot generate samples.
    """
    folder = RunFolder(run)
    samples = np.asarray(evaluation.generate_samples(folder.load_model(), num_samples, seed))
    if output is None:
        path = folder.samples_file(suffix=".png" if are_images(samples) else ".npy")
    else:
        path = pathlib.Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    if are_images(samples) and path.suffix != ".npy":
        save_grid(path, samples)
    else:
        np.save(path, samples)
    return path


def evaluate(run: PathLike, num_samples: int = 500, seed: int = 0) -> evaluation.Evaluation:
    """Evaluate the model of a run on its test data.

    The function also writes `evaluation.json`, figures of the latents and `report.html` into the
    folder of the run.

    Args:
        run: Folder of the run.
        num_samples: Number of posterior samples with which log p(x) of each test example is
            estimated. Default: 500. Models that cannot estimate log p(x) ignore this number.
        seed: Seed of all samples. Default: 0.

    Returns:
        The scores, an `evaluation.Evaluation`.

    Raises:
        ValueError: If the run is not finished, if its data are missing, or if the shape of the data
            has changed since the training.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    model = folder.load_model()
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
        seed=seed,
        real=real,
        split=split,
    )
    result.save(folder.evaluation_file)
    evaluation.save_latent_figures(model, folder.path, test, labels, seed)
    write_report(folder)
    return result


def _load_with_labels_if_any(config: RunConfig) -> Any:
    """Load `(train, test)`. Load labels, too, if the data have labels."""
    try:
        return load_data(config, labels=True)
    except ValueError:
        return load_data(config)


def audit(
    run: PathLike, epochs: int = 10, num_seeds: int = 3, images: int = 100, num_samples: int = 200
) -> evaluation.IndependenceAudit:
    """Measure whether a full-covariance posterior improves a VAE with a diagonal posterior.

    For each seed, the function trains two copies of the VAE further: one with a diagonal posterior,
    the other with a full-covariance posterior. `evaluation.audit_independence` explains the method.
    The function writes `audit.json`, `correlations.png` and `report.html` into the folder of the
    run. The model of the run does not change.

    Args:
        run: Folder of a run that trained a VAE with a diagonal posterior.
        epochs: Number of further epochs for each copy. Default: 10. The learning-rate schedule of
            the run starts again and covers these epochs.
        num_seeds: Number of seeds, at least 1. Default: 3.
        images: Number of test examples for which a separate posterior is optimized, at least 2.
            Default: 100.
        num_samples: Number of posterior samples with which log p(x) of each test example is
            estimated. Default: 200.

    Returns:
        The result, an `evaluation.IndependenceAudit`.

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


def export(run: PathLike, base: PathLike | None = None, png: bool = False) -> pathlib.Path:
    """Publish the model of a run as the next version of a SavedModel.

    Args:
        run: Folder of the run.
        base: Folder that contains the versions of the model. Default:
            `config.savedmodels/config.name`, where `config` is the configuration of the run. If the
            run has no configuration, the default is `savedmodels/<name of the run folder>`.
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
