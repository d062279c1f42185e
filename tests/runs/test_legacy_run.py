"""A run of version 0.1.0 is read, sampled, evaluated and reported by this version."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import yaml

from keras_gen import cli
from keras_gen.runs import RunFolder
from keras_gen.runs import evaluate as finished
from keras_gen.runs.recipes import VAEConfig
from keras_gen.runs.report import write_report

LEGACY = pathlib.Path(__file__).parents[1] / "legacy" / "run"


@pytest.fixture
def run(tmp_path):
    """A copy of the run, whose configuration names new data of the same shape."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(LEGACY, folder)
    shape = (120, *folder.load_model().data_shape)
    np.savez(tmp_path / "digits.npz", x=np.random.default_rng(0).random(shape, np.float32))
    text = folder.config_file.read_text()
    assert "data: digits.npz\n" in text
    assert "pictures_every: 10\n" in text
    data = f"data: {tmp_path / 'digits.npz'}\n"
    folder.config_file.write_text(text.replace("data: digits.npz\n", data))
    return folder


def test_its_configuration_is_read(run):
    config = run.read_config()
    assert type(config) is VAEConfig
    assert (config.images_every, config.binarize, config.latent_size) == (10, True, 3)
    assert yaml.safe_load(run.config_file.read_text())["pictures_every"] == 10  # not rewritten
    run.config_file.write_text(run.config_file.read_text().replace("every: 10", "every: 0", 1))
    with pytest.raises(ValueError, match="`images_every` must be greater than 0"):
        run.read_config()


def test_it_is_sampled_evaluated_and_reported(run, capsys):
    samples = np.load(finished.sample(run, 4, seed=1, output=run.path / "x.npy"))
    np.testing.assert_array_equal(samples, run.load_model().generate(4, seed=1))
    cli.main(["evaluate", str(run.path), "--num-samples", "5"])
    assert "elbo" in capsys.readouterr().out
    scores = json.loads(run.evaluation_file.read_text())["scores"]
    assert np.isfinite([score["value"] for score in scores]).all()
    page = run.report_file.read_text()
    assert "pictures_every: 10" in page
    assert "val_kl_z_score" not in page  # a metric without a training value has no chart
    run.report_file.unlink()
    assert write_report(run) == run.report_file
    assert "A variational autoencoder, trained on " in run.report_file.read_text()
