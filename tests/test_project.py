"""The house: imports, public names, scripts, and what a clean process sees."""

import contextlib
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from conftest import serving_models, tiny_vae
from importlinter.cli import lint_imports

import keras_gen
from keras_gen import data

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(str(path.relative_to(ROOT / "scripts")) for path in (ROOT / "scripts").rglob("*.py") if path.stem != "results")


def test_imports_go_one_way():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_public_names_are_there():
    assert all(hasattr(keras_gen, name) for name in keras_gen.__all__)


def test_a_saved_model_comes_back_with_nothing_but_import_keras_gen(tmp_path):
    tiny_vae()[0].save(tmp_path / "vae.keras")
    program = f"import keras, keras_gen; print(type(keras.saving.load_model({str(tmp_path / 'vae.keras')!r})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "keras_gen.models.vae.VAE" in result.stdout, result.stderr


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


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    "page", ["README.md", "docs/autoencoder.md", "docs/gan.md", "docs/training.md", "docs/evaluation.md", "docs/serving.md"]
)
def test_the_scripts_of_the_readme_and_the_docs_run(page, tmp_path, monkeypatch):
    """On two batches, and in a folder of their own; those that ask a server, of one that is made of what the first published."""
    monkeypatch.chdir(tmp_path)
    load = data.load
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: [split.take(2) for split in load(*args, **kwargs)])
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert snippets
    names = {}
    for snippet in snippets:
        with serving_models(tmp_path / "savedmodels") if "localhost" in snippet else contextlib.nullcontext({}) as ports:
            snippet = re.sub(r"epochs=\d+", "epochs=2", snippet)
            snippet = snippet.replace("localhost:8501", f"localhost:{ports.get('rest')}").replace(
                "localhost:8500", f"localhost:{ports.get('grpc')}"
            )
            exec(snippet, names if page in ("docs/serving.md", "docs/evaluation.md") else {})
    assert list((tmp_path / "savedmodels").glob("*/1/saved_model.pb")) or "export" not in "".join(snippets)
