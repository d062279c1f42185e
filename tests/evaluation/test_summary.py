"""The table of scores for each kind of model, against the functions that it calls."""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
from keras.utils import load_img
from support import tiny

from keras_gen import RegularizedAutoencoder, evaluation, networks
from keras_gen.evaluation import Evaluation, Score, save_latent_figures, summarize, tables
from keras_gen.evaluation.summary import format_number

PIXELS = evaluation.Extractor(
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), "pixels"
)


@pytest.mark.filterwarnings("ignore:.*is not a likelihood")
@pytest.mark.parametrize("name", ["autoencoder", "vae", "conditional_vae", "conditional_gan"])
def test_the_numbers_are_those_of_each_function_and_the_figures_are_written(
    name, models, images, tmp_path
):
    model = models[name]
    labels = np.arange(20) % model.num_classes if model.num_classes else None
    found = summarize(model, images, labels, num_samples=20, extractor=PIXELS, seed=3)
    assert isinstance(found, Evaluation)
    assert all(isinstance(score, Score) for score in found.scores)
    values = {score.name: score.value for score in found.scores}
    quality = evaluation.sample_quality(model, images, extractor=PIXELS, seed=3)
    assert (values["FID"], values["KID"], values["FID of real images"]) == (
        quality.fid,
        quality.kid,
        quality.real_fid,
    )
    assert all(
        quality.protocol["weights"] in score.protocol
        for score in found.scores
        if score.name in ("FID", "recall")
    )
    if "vae" in name:
        likelihood = evaluation.log_likelihood(model, images, labels, 20, seed=3, verbose=0)
        given = "bound (grey values: no likelihood)" if name == "vae" else "log p(x | y)"
        assert values[given] == likelihood.mean
        assert values["elbo"] == model.evaluate(images, labels, verbose=0, return_dict=True)["elbo"]
        assert found.comments == [str(evaluation.latent_report(model, images, labels))]
    elif name == "autoencoder":
        assert values["loss"] == model.evaluate(images, verbose=0, return_dict=True)["loss"]
    assert {line[:3] for line in str(found).splitlines()} >= {"FID", "KID", "rec"}
    found.save(tmp_path / "evaluation.json")
    assert (
        json.loads((tmp_path / "evaluation.json").read_text())["scores"][0]["value"]
        == found.scores[0].value
    )
    save_latent_figures(model, tmp_path, images, labels)
    figures = {path.name: load_img(path).size for path in tmp_path.glob("*.png")}
    assert figures.pop("codes.png", None) if "gan" not in name else "codes.png" not in figures
    assert figures == {
        "traversals.png": (11 * 16, 3 * 16),
        "interpolations.png": (11 * 16, 5 * 16),
    }


def test_without_an_extractor_it_says_so(models, images):
    found = summarize(models["gan"], images)
    assert found.scores == []
    assert "not compared with real examples" in str(found)


def test_without_a_density_of_the_latents_it_says_so(images):
    model = tiny("autoencoder")
    assert "no density of its latents" in str(summarize(model, images, extractor=PIXELS))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.1235"), (-999.94, "-999.9"), (1000, "1,000"), (-1234.5, "-1,234")],
)
def test_numbers_from_a_thousand_have_no_decimals(value, text):
    assert format_number(value) == text


RESULTS = [
    cls
    for name in evaluation.__all__
    if dataclasses.is_dataclass(cls := getattr(evaluation, name)) and isinstance(cls, type)
]


@pytest.mark.parametrize("cls", RESULTS)
def test_results_cannot_be_changed_by_accident(cls):
    result = object.__new__(cls)
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, name, 0)


WITH_SEED = [
    function
    for name in (*evaluation.__all__, "classifier_accuracy", "imputation_scores", "table_scores")
    if inspect.isfunction(function := getattr(evaluation, name, getattr(tables, name, None)))
    and "seed" in inspect.signature(function).parameters
]


@pytest.mark.parametrize("function", WITH_SEED)
def test_all_evaluations_are_reproducible_with_the_same_default_seed(function):
    default = inspect.signature(function).parameters["seed"].default
    assert default in (0, inspect.Parameter.empty)


def test_other_data_than_images_have_no_images_of_latents(tmp_path):
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    encoder = networks.mlp((4,), (2,), hidden=())
    model = RegularizedAutoencoder(encoder, networks.mlp((2,), (4,), hidden=()))
    model.compile("adam", loss="mse")
    save_latent_figures(model, tmp_path, x)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.png"]


def test_the_table_aligns_names_values_errors_and_units():
    scores = [
        Score("FID", 12.3456, error=0.5, protocol="20 images"),
        Score("log p(x)", -1234.5, "nats"),
    ]
    assert str(Evaluation(scores, ["Good."])).splitlines() == [
        "FID        12.35 ± 0.5       20 images",
        "log p(x)  -1,234       nats",
        "",
        "Good.",
    ]
