"""What is done with a finished run: samples, evaluation, the audit of independence, export."""

import dataclasses
import json
import pathlib

import numpy as np

from keras_gen import evaluation, serving
from keras_gen._files import PathLike, atomic_write
from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import are_images, save_grid, save_matrix
from keras_gen.evaluation.quality import draw_samples
from keras_gen.evaluation.summary import Evaluation, draw_latents, summarize
from keras_gen.models import GAN
from keras_gen.runs.config import VAEConfig, as_dict, read
from keras_gen.runs.folder import load_run
from keras_gen.runs.report import write_report
from keras_gen.runs.train import adam, load_data


def sample(
    run: PathLike, num_samples: int = 100, seed: int = 0, output: PathLike | None = None
) -> pathlib.Path:
    """Write samples of a run's model as one picture, or as an .npy of rows if they are no images.

    Args:
        run: Folder of the run.
        num_samples: How many.
        seed: Their seed.
        output: File to write; `samples.png` or `samples.npy` in the run's folder if None.

    Returns:
        Path of the file.
    """
    samples = np.asarray(draw_samples(load_run(run), num_samples, seed))
    output = pathlib.Path(
        output or pathlib.Path(run) / ("samples.png" if are_images(samples) else "samples.npy")
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    if are_images(samples) and output.suffix != ".npy":
        save_grid(output, samples)
    else:
        np.save(output, samples)
    return output


def evaluate(run: PathLike, num_samples: int = 500, seed: int = 0) -> Evaluation:
    """Evaluate a run's model on its test data, and leave `evaluation.json`, pictures of the latents and `report.html` in its folder.

    Args:
        run: Folder of the run.
        num_samples: Draws for the likelihood of each test example, of a VAE.
        seed: Seed of draws and samples.

    Returns:
        `evaluation.Evaluation`.
    """
    folder, config, model = pathlib.Path(run), read(run), load_run(run)
    try:
        train_data, test_data = load_data(
            config, labels=True
        )  # if there are any, they colour the map
    except ValueError:
        train_data, test_data = load_data(config)
    test, labels = as_arrays(test_data)
    given = labels if model.num_classes else None
    if config.binarize and not isinstance(
        model, GAN
    ):  # its samples are the pixels' probabilities: as grey as the images were
        train_data, test_data = load_data(dataclasses.replace(config, binarize=False))
        real, split = as_arrays(test_data)[0], "test in grey values"
    else:
        real, split = test, "test"
    others = as_arrays(train_data, len(test))[0]
    found = summarize(model, test, given, others, num_samples, seed=seed, real=real, split=split)
    found.save(folder / "evaluation.json")
    draw_latents(model, folder, test, labels, seed)
    write_report(folder)
    return found


def audit(
    run: PathLike, epochs: int = 10, num_seeds: int = 3, images: int = 100, num_samples: int = 200
) -> evaluation.IndependenceAudit:
    """Ask of a run's VAE whether independent latents were adequate, and leave `audit.json` and `correlations.png` in its folder.

    Args:
        run: Folder of the run of a VAE with a diagonal posterior.
        epochs: Further passes over the training data, with the run's learning rate falling to 0 along a cosine.
        num_seeds: Pairs of trainings.
        images: Test images whose posteriors are refined.
        num_samples: Draws for the likelihood of each test image.

    Returns:
        `evaluation.IndependenceAudit`.
    """
    folder, config, model = pathlib.Path(run), read(run), load_run(run)
    if not isinstance(config, VAEConfig):
        raise ValueError(
            f"Expected the run of a VAE. Received: {run}, of a {as_dict(config)['model']}."
        )
    train_data, test_data = load_data(config)
    test, labels = as_arrays(test_data)
    model.compile(
        adam(config, epochs * len(train_data), config.learning_rate), objective=model.objective
    )
    found = evaluation.audit_independence(
        model,
        lambda: load_data(config)[0],
        test,
        labels,
        epochs=epochs,
        seeds=tuple(range(num_seeds)),
        images=images,
        num_samples=num_samples,
    )
    content = {**dataclasses.asdict(found), "words": str(found).split("\n")}
    with atomic_write(folder / "audit.json") as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, default=np.ndarray.tolist) + "\n")
    save_matrix(folder / "correlations.png", found.correlations)
    write_report(folder)
    return found


def export(run: PathLike, base: PathLike | None = None, png: bool = False) -> pathlib.Path:
    """Publish a run's model as the next version.

    Args:
        run: Folder of the run.
        base: Folder of the model's versions; where the run put its own if None.
        png: Offer each signature also with images as PNG.

    Returns:
        Path of the version.
    """
    if base is None and (pathlib.Path(run) / "config.yaml").is_file():
        config = read(run)
        base = config.savedmodels / config.name
    base = base or pathlib.Path("savedmodels") / pathlib.Path(run).name
    return serving.publish(load_run(run), base, png)
