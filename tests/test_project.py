"""The house: imports, public names, scripts, and what a clean process sees."""

import functools
import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
from importlinter.cli import lint_imports
from support import tiny_vae

import keras_gen

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT / "scripts"))
    for path in (ROOT / "scripts").rglob("*.py")
    if path.stem != "results"
)


def test_imports_go_one_way():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_public_names_are_there():
    assert all(hasattr(keras_gen, name) for name in keras_gen.__all__)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_answer_help_and_stay_thin(script, monkeypatch, capsys):
    path = ROOT / "scripts" / script
    if script.startswith(("train", "export")):
        assert len(path.read_text().splitlines()) <= 12
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)  # as Python has it, for what scripts share
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert not stopped.value.code
    assert "--help" in capsys.readouterr().out


@pytest.mark.usefixtures("unverified")
def test_a_script_trains(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 12, 12)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_autoencoder.py", "--data", "x.npz", "--epochs", "1"])
    runpy.run_path(str(ROOT / "scripts" / "train_autoencoder.py"), run_name="__main__")
    assert (tmp_path / "savedmodels" / "autoencoder" / "1").is_dir()


def test_the_wheel_has_the_whole_package_and_is_all_that_it_needs(tmp_path):
    """Built as an sdist, from which the wheel is built; what is installed from that loads its data and its command answers."""
    run = functools.partial(
        subprocess.run, check=True, capture_output=True, text=True, cwd=tmp_path
    )
    run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            str(tmp_path / "dist"),
            str(ROOT),
        ]
    )
    version = keras_gen.__version__
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {
        f"keras_gen-{version}.tar.gz",
        f"keras_gen-{version}-py3-none-any.whl",
    }
    wheel, installed = (
        str(tmp_path / "dist" / f"keras_gen-{version}-py3-none-any.whl"),
        tmp_path / "installed",
    )
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--no-index",
            "--target",
            str(installed),
            wheel,
        ]
    )

    def files(folder):
        return {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(installed / "keras_gen") == files(ROOT / "keras_gen")
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    said = run([str(installed / "bin" / "keras-gen"), "--version"], env=environment).stdout
    assert said.startswith(f"keras_gen {version}\n")
    tiny_vae()[0].save(tmp_path / "vae.keras")
    program = (  # a saved model needs nothing but the import
        "import keras, keras_gen; print(keras_gen.__file__, keras_gen.data.load('mnist_mini')[0].cardinality().numpy(), "
        "keras.saving.load_model('vae.keras').__class__)"
    )
    where, batches, *kind = run([sys.executable, "-c", program], env=environment).stdout.split()
    assert kind == ["<class", "'keras_gen.models.vae.VAE'>"]
    assert pathlib.Path(where).is_relative_to(installed)
    assert int(batches) == -(-10_000 // 128)
