"""A VAE with a fitted flow, in the C++ loader of TensorFlow Serving."""

import json
import pathlib
import subprocess
import sys

import numpy as np
from support import LATENTS, tiny, without_verifying

from keras_gen import serving
from keras_gen.distributions import FittedFlow

CHECKS = pathlib.Path(__file__).with_name("cpp_checks.py")
CALLS = 20  # per thread


def test_the_loader_generates_from_a_fitted_flow_as_keras_does(images, tmp_path, monkeypatch):
    vae = tiny("vae", run_eagerly=True)
    flow = FittedFlow(LATENTS, num_flows=2, hidden_size=8)
    flow.fit(3 + np.random.default_rng(0).normal(size=(64, LATENTS)), num_steps=5)
    monkeypatch.setattr(FittedFlow, "fit", lambda self, latents, seed=0: None)
    vae.fit_latent_density(images, flow)
    without_verifying(monkeypatch)
    folder = serving.publish(vae, tmp_path / "flow_vae")
    command = [sys.executable, str(CHECKS), str(CALLS), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["flow_vae"]
    assert found["differences"]["generate"] < 1e-5
    assert found["splits"]["generate"] < 1e-5
    assert found["empty"]["generate"]
    assert found["threads"] == {"generate": 0}
    request = json.dumps([["generate", {"seed": list(range(200))}]])
    command = [sys.executable, str(CHECKS), "answers", str(folder)]
    result = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    [answer] = json.loads(result.stdout)
    np.testing.assert_allclose(answer["latents"], flow.sample_rows(range(200)), atol=1e-5)
    assert np.all(np.abs(np.mean(answer["latents"], axis=0) - 3) < 0.5)  # not the prior N(0, I)
    expected = vae.generate(seed=np.arange(200))
    np.testing.assert_allclose(answer["outputs"], expected, atol=1e-5)
