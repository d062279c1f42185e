"""The table of scores for each kind of model, against the functions that it calls."""

import dataclasses
import inspect
import json
import types

import keras
import numpy as np
import pytest
from keras.utils import load_img
from support import tiny

from keras_gen import RegularizedAutoencoder, evaluation, networks
from keras_gen.evaluation import (
    Evaluation,
    Score,
    save_latent_figures,
    summarize,
    summary,
    tables,
)
from keras_gen.evaluation.summary import format_number

PIXELS = evaluation.Extractor(
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), "pixels"
)


@pytest.mark.filterwarnings("ignore:.*is not a likelihood")
@pytest.mark.parametrize("name", ["autoencoder", "vae", "conditional_vae", "conditional_gan"])
def test_the_numbers_are_those_of_each_function_and_the_figures_are_written(
    name, models, images, tmp_path, capsys
):
    model = models[name]
    labels = np.arange(20) % model.num_classes if model.num_classes else None
    found = summarize(model, images, labels, num_samples=20, extractor=PIXELS, seed=3)
    assert not capsys.readouterr().out
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


def test_the_metrics_of_a_model_are_scores(models, images):
    model = models["vq_vae"]
    values = {score.name: score.value for score in summarize(model, images).scores}
    logs = model.evaluate(images, verbose=0, return_dict=True)
    assert values["perplexity"] == logs["perplexity"]


def test_grey_images_of_28_pixels_have_a_default_extractor():
    """The comment on the missing density comes only after the choice of an extractor."""
    shape = (28, 28, 1)
    model = RegularizedAutoencoder(
        networks.mlp(shape, (2,), hidden=()), networks.mlp((2,), shape, hidden=())
    )
    model.compile("adam", loss="mse")
    x = np.zeros((10, *shape), np.float32)
    assert "no density of its latents" in str(summarize(model, x))
    with pytest.raises(ValueError, match="at least 10 examples"):
        summarize(model, x[:9])


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize(
    ("measure", "num_classes", "name"),
    [("probability", None, "log p(x)"), ("probability", 3, "log p(x | y)")],
)
def test_log_p_is_shown_with_a_progress_bar_in_a_terminal_only(
    is_terminal, measure, num_classes, name, monkeypatch
):
    values = np.array([-4.0, -6.0])
    estimate = evaluation.LogLikelihood(
        values, np.zeros(2), np.zeros((2, 2)), values, values, {}, 5, measure
    )
    calls = []

    def log_likelihood(vae, x, labels, num_samples, seed, verbose):
        calls.append(verbose)
        return estimate

    stdout = types.SimpleNamespace(isatty=lambda: is_terminal)
    monkeypatch.setattr(summary, "sys", types.SimpleNamespace(stdout=stdout))
    monkeypatch.setattr(summary, "log_likelihood", log_likelihood)
    model = types.SimpleNamespace(num_classes=num_classes)
    scores = summary._likelihood_scores(model, np.zeros((2, 5)), None, 9, 0)
    assert calls == [int(is_terminal)]
    assert [(score.name, score.value, score.unit) for score in scores] == [
        (name, -5, "nats"),
        ("bits per dimension", pytest.approx(1 / np.log(2)), "bits"),
    ]


def test_figures_of_latents_use_the_first_2000_examples(tmp_path, monkeypatch):
    encoder = networks.mlp((4,), (2,), hidden=())
    model = RegularizedAutoencoder(encoder, networks.mlp((2,), (4,), hidden=()))
    x = np.random.default_rng(0).random((2001, 4)).astype("float32")
    plotted = []
    monkeypatch.setattr(summary, "save_scatter", lambda *arguments: plotted.append(arguments))
    save_latent_figures(model, tmp_path, x, np.arange(2001), names=["a", "b"])
    [(_, points, labels, names)] = plotted
    assert names == ["a", "b"]
    np.testing.assert_allclose(points, encoder(x[:2000]), atol=1e-5)
    assert labels.tolist() == list(range(2000))


@pytest.mark.parametrize("name", ["conditional_vae", "conditional_gan"])
def test_the_latents_of_one_label_are_traversed_and_neighbors_are_joined(
    name, models, images, tmp_path, monkeypatch
):
    model = models[name]
    labels = np.arange(20)[::-1] % 4
    traversed, joined = [], []

    def traverse(model, latents, condition):
        traversed.append((latents, condition))
        return np.zeros((1, 2, 8, 8, 1))

    def interpolate(model, **arguments):
        joined.append(arguments)
        return np.zeros((1, 2, 8, 8, 1))

    monkeypatch.setattr(summary, "traverse", traverse)
    monkeypatch.setattr(summary, "interpolate", interpolate)
    save_latent_figures(model, tmp_path, images, labels, seed=3)
    if model.has_encoder:
        latents = evaluation.latents(model, images, labels)
    else:
        latents = np.asarray(model.latent_distribution.sample_rows(np.arange(3, 23), labels))
    [(found, condition)] = traversed
    np.testing.assert_array_equal(found, latents[labels == 3])
    assert condition == 3
    [found] = joined
    np.testing.assert_array_equal(found["start"], latents[:5])
    np.testing.assert_array_equal(found["end"], latents[5:10])
    assert found["condition"].tolist() == [3, 2, 1, 0, 3]
    assert found["spherical"] == (not model.has_encoder)  # samples of a normal prior


def test_a_model_without_an_encoder_and_a_prior_has_no_latents(tmp_path):
    model = types.SimpleNamespace(
        num_classes=None,
        has_encoder=False,
        latent_distribution=None,
        name="model",
        fits_prior_with="`fit_latent_density`",
    )
    with pytest.raises(ValueError, match=r"must have a prior.* Call `fit_latent_density`"):
        save_latent_figures(model, tmp_path, np.zeros((10, 4)))
