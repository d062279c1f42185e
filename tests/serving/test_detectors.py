"""Exported detectors in the C++ loader: score, flag and scores per feature, also of NaN."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_gen import VAE, RegularizedAutoencoder, distributions, networks
from keras_gen._columns import Column

CHECKS = pathlib.Path(__file__).with_name("cpp_checks.py")
NAN = np.float32("nan")
IMAGE = (4, 4, 1)
COLUMNS = (
    Column("mass", "positive", mean=8.3, scale=0.2),
    Column("eggs", "count", mean=2.0, scale=1.5),
    Column("sex", "binary", ("f", "m")),
)
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.random((12, *IMAGE), dtype=np.float32)
ROWS = np.stack(
    [RANDOM.lognormal(8.3, 0.2, 12), RANDOM.poisson(2, 12), RANDOM.integers(0, 2, 12)], axis=1
).astype("float32")


def networks_of(likelihood, latents):
    """Return an encoder with `latents` outputs, and a decoder of two latents."""
    features = networks.ColumnFeatures(COLUMNS) if likelihood.columns else None
    encoder = networks.mlp(likelihood.event_shape, (latents,), hidden=(8,), features=features)
    return encoder, networks.mlp((2,), likelihood.parameter_shape, hidden=(8,))


def detector(kind, likelihood, x):
    """Return a calibrated model with random weights. About half of `x` is above the threshold."""
    if kind == "vae":
        posterior = distributions.DiagonalNormal(2)
        model = VAE(
            *networks_of(likelihood, posterior.parameter_size), posterior, likelihood, seed=0
        )
        model.compile("adam")
    else:
        model = RegularizedAutoencoder(*networks_of(likelihood, 2), seed=0)
        model.compile("adam", loss=likelihood)
    model.calibrate(x, quantile=0.5)
    return model


def answer_of_loader(model, folder, x):
    """Return the outputs of the exported function `score` for `x`, computed by the C++ loader."""
    score = model.signatures()["score"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "signatures", lambda: {"score": score})  # others would take seconds
        model.export(folder)
    command = [sys.executable, str(CHECKS), "answers", str(folder)]
    request = json.dumps([["score", {"inputs": x.tolist()}]])
    result = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    [outputs] = json.loads(result.stdout)
    return {name: np.array(values) for name, values in outputs.items()}


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_an_image_with_nan_is_flagged_and_the_others_have_the_scores_of_keras(kind, tmp_path):
    model = detector(kind, distributions.Normal(IMAGE, "shared"), PIXELS)
    x = PIXELS.copy()
    x[3] = NAN
    x[5, 1, 2] = NAN
    outputs = answer_of_loader(model, tmp_path / "1", x)
    valid = np.isfinite(x).all(axis=(1, 2, 3))
    flags = model.is_anomaly(PIXELS).numpy()
    assert 0 < flags[valid].sum() < valid.sum()
    np.testing.assert_array_equal(outputs["anomaly"], flags | ~valid)
    score = np.where(valid, model.score(PIXELS), np.inf)
    np.testing.assert_allclose(outputs["score"], score, rtol=1e-4)
    parts = model.score_per_feature(PIXELS).numpy()
    np.testing.assert_allclose(outputs["per_feature"][valid], parts[valid], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(
        outputs["per_feature"][~valid], np.where(np.isnan(x[~valid]), np.inf, 0)
    )


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_a_row_with_nan_is_scored_by_its_observed_entries(kind, tmp_path):
    model = detector(kind, distributions.Columns(COLUMNS), ROWS)
    x = ROWS.copy()
    x[3] = NAN
    x[5, 0] = NAN
    outputs = answer_of_loader(model, tmp_path / "1", x)
    np.testing.assert_allclose(outputs["score"], model.score(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs["anomaly"], model.is_anomaly(x))
    assert 0 < outputs["anomaly"].sum() < len(x)
    np.testing.assert_allclose(
        outputs["per_feature"], model.score_per_feature(x), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(outputs["per_feature"][np.isnan(x)], 0)
    # Nothing of row 3 is observed. For the VAE, its KL divergence is the rest of its score.
    kl = model.encode(x).kl_divergence(model.prior.distribution())[3] if kind == "vae" else 0
    np.testing.assert_allclose(outputs["score"][3], kl, rtol=1e-4, atol=1e-5)
