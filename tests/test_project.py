"""Structure of the package: imports, private names, scripts, and the installed wheel."""

import ast
import configparser
import graphlib
import importlib
import inspect
import os
import pathlib
import re
import runpy
import subprocess
import sys
import textwrap

import grimp
import keras
import numpy as np
import pytest
import tensorflow as tf
from importlinter.cli import lint_imports
from keras.utils import load_img
from slow import COLLECTED, SLOW, matching, slow_of
from support import tiny_vae

import keras_gen
from keras_gen import evaluation

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_gen"
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("scripts", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if path.stem != "results"
)


def test_imports_follow_the_layers_of_the_architecture():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def import_cycle(package):
    """Return the names of modules that import each other in a circle, or None.

    Imports inside functions and under `TYPE_CHECKING` count. The package itself does not, because
    it imports its public names from all modules.
    """
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    imports = {}
    for module in graph.modules - {package}:
        imports[module] = graph.find_modules_directly_imported_by(module) - {package}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_in_a_circle():
    assert import_cycle("keras_gen") is None


@pytest.mark.parametrize(
    "back",
    [
        "from circle.a import x",
        "if TYPE_CHECKING:\n    import circle.a",
        "def f():\n    from circle import a",
    ],
    ids=["plain", "types", "function"],
)
def test_every_kind_of_circle_is_found(tmp_path, monkeypatch, back):
    package = tmp_path / "circle"
    package.mkdir()
    (package / "__init__.py").write_text("from circle import a, b, c")
    (package / "a.py").write_text("from circle import b")
    (package / "b.py").write_text("import circle.c")
    (package / "c.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_cycle("circle") is None
    (package / "c.py").write_text(f"from typing import TYPE_CHECKING\n{back}\n")
    assert set(import_cycle("circle")) == {"circle.a", "circle.b", "circle.c"}


# === Private names of Keras and TensorFlow ===

FRAMEWORKS = ("keras", "tensorflow", "tensorflow_datasets", "tensorflow_probability", "tf_keras")
PRIVATE_MODULES = ("keras.src", "tensorflow.python", "tensorflow_probability.python")
# Names of named tuples, and the mark of a module whose import has not ended.
OF_PYTHON = ("_asdict", "_fields", "_replace", "_initializing")
# There is no public list of the operations that TensorFlow registers.
ALLOWED_IMPORTS = {"serving/_clean_check.py": "tensorflow.python.framework.op_def_registry"}


def is_private(name):
    return name.startswith("_") and not name.endswith("_")


def sources():
    """Return the syntax trees of all modules but `_compat.py`, by path in the package."""
    paths = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
    del paths["_compat.py"]
    return {name: ast.parse(path.read_text()) for name, path in paths.items()}


def defined_names(tree):
    """Return all names that a module defines or assigns, and its attributes of `self` or `cls`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            names.add(node.attr)
    return names


def imported_names(tree):
    """Yield `(line, name)` for all imports, with the full name of what is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def other_packages(tree):
    """Return the names under which a module imports packages other than Keras and TensorFlow."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] not in FRAMEWORKS:
                    names.add(alias.asname or alias.name.split(".")[0])
    return names


def private_accesses(tree, own_names):
    """Return `line: code` for all uses of private names that are not in `own_names`."""
    others = other_packages(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
            if isinstance(node.value, ast.Name) and node.value.id in others:
                continue
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr", "delattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            name = node.args[1].value
        else:
            continue
        if is_private(name) and name not in own_names and name not in OF_PYTHON:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def test_only_compat_uses_private_names_of_keras_and_tensorflow():
    trees = sources()
    own_names = {name for tree in trees.values() for name in defined_names(tree)}
    own_names |= {pathlib.Path(path).stem for path in trees}  # the names of modules
    found = {}
    for path, tree in trees.items():
        lines = private_accesses(tree, own_names)
        for line, name in imported_names(tree):
            if name.startswith(PRIVATE_MODULES) and name != ALLOWED_IMPORTS.get(path):
                lines.append(f"{line}: import of {name}")
        if lines:
            found[path] = lines
    assert found == {}


def test_the_search_finds_private_names_and_imports():
    source = """
import os
import keras.src.layers
from keras import src
from tensorflow.python import framework
def f(model):
    model._own, os._exit, table._asdict(), self._own
    model._foreign.x, super()._foreign, getattr(model, "_foreign"), keras._foreign()
"""
    tree = ast.parse(source)
    assert sorted(private_accesses(tree, {"_own"})) == [
        "8: getattr(model, '_foreign')",
        "8: keras._foreign",
        "8: model._foreign",
        "8: super()._foreign",
    ]
    names = [name for _, name in imported_names(tree)]
    assert names == ["os", "keras.src.layers", "keras.src", "tensorflow.python.framework"]


def names_of_frameworks(kind):
    """Return the private names that the Keras and TensorFlow base classes of a class define."""
    names = set()
    for base in inspect.getmro(kind):
        if base.__module__.split(".")[0] in FRAMEWORKS:
            names |= defined_names(ast.parse(textwrap.dedent(inspect.getsource(base))))
    return {name for name in names if is_private(name)}


def test_no_class_redefines_a_private_name_of_keras():
    """Methods as well as attributes of `self`, which Keras may track or overwrite."""
    found = {}
    for path, tree in sources().items():
        parts = ["keras_gen", *pathlib.Path(path).with_suffix("").parts]
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                inherited = names_of_frameworks(getattr(module, node.name))
                redefined = defined_names(node) & inherited
                if redefined:
                    found[f"{path}: {node.name}"] = redefined
    assert found == {}


def test_the_private_names_of_keras_are_found():
    names = names_of_frameworks(keras_gen.VAE)
    assert names >= {"_losses", "_metrics", "_symbolic_build", "_tracker"}


def test_public_names_exist():
    assert all(hasattr(keras_gen, name) for name in keras_gen.__all__)


EXAMPLES = {  # scripts that people read, with flags for a short run and the files of this run
    "train_vae.py": (["--epochs", "1", "--samples", "2"], ["reconstructions.png", "vae.keras"]),
    "train_autoencoder.py": (["--epochs", "1"], ["reconstructions.png", "autoencoder.keras"]),
    "train_gan.py": (["--epochs", "1"], ["samples.png", "gan.keras"]),
    "own_images.py": (
        ["photos", "--epochs", "2", "--image-size", "16", "--latents", "4", "--flip"],
        ["samples.png", "reconstructions.png", "anomalies.png", "checkpoints", "vae.keras"],
    ),
    "own_table.py": (
        ["penguins", "--epochs", "1", "--kind", "year=ordinal"],
        ["complete.csv", "generated.csv", "scores.csv", "vae.keras"],
    ),
    "own_networks.py": (["--epochs", "1"], ["samples.png", "vae.keras"]),
    "custom_training_loop.py": (["--epochs", "2"], ["samples.png", "vae.keras"]),
}
MOST_LINES = {"export.py": 12, "detect_anomalies.py": 100, **dict.fromkeys(EXAMPLES, 100)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_answer_help_and_stay_thin(script, monkeypatch, capsys):
    path = ROOT / script
    if path.name in MOST_LINES:
        assert len(path.read_text().splitlines()) <= MOST_LINES[path.name]
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)  # as Python does, because scripts share `results.py`
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert not stopped.value.code
    assert "--help" in capsys.readouterr().out


def test_the_example_of_anomalies_writes_a_figure_and_a_detector(tmp_path, monkeypatch, capsys):
    script = ROOT / "scripts" / "detect_anomalies.py"
    flags = ["--digit", "1", "--epochs", "1", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(script), *flags])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    auroc = float(re.search(r"AUROC: ([\d.]+)", printed).group(1))
    assert auroc > 0.7
    assert float(re.search(r"False alarms: ([\d.]+)%", printed).group(1)) < 20
    assert load_img(tmp_path / "anomalies.png").size == (560, 168)
    detector = keras.saving.load_model(tmp_path / "detector.keras")
    assert f"Threshold: {detector.threshold:.4f}" in printed
    score = tf.saved_model.load(str(tmp_path / "1")).signatures["score"]
    outputs = score(inputs=tf.zeros((2, 28, 28, 1)))
    assert set(outputs) == {"score", "anomaly", "per_feature"}


@pytest.mark.slow
def test_an_extractor_is_trained_on_the_classes_of_a_folder(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for number in range(120):
        path = tmp_path / "photos" / ("light" if number % 2 else "dark") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, 120 * (random.random((12, 14, 3)) + number % 2), scale=False)
    script = ROOT / "scripts" / "train_extractor.py"
    output = tmp_path / "brightness.keras"
    flags = [str(tmp_path / "photos"), str(output), "--image-size", "8", "--features", "5"]
    monkeypatch.setattr(sys, "argv", [str(script), *flags, "--epochs", "60"])
    runpy.run_path(str(script), run_name="__main__")
    accuracy = float(re.search(r"The test accuracy is ([\d.]+)%", capsys.readouterr().out)[1])
    assert accuracy > 90
    extractor = evaluation.load_extractor(output)
    assert extractor(np.zeros((2, 8, 8, 3))).shape == (2, 5)


@pytest.mark.parametrize("script", EXAMPLES)
def test_an_example_trains_and_writes_its_files(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, pixels in enumerate(np.random.default_rng(0).random((40, 20, 18, 3))):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, pixels)
    flags, files = EXAMPLES[script]
    monkeypatch.setattr(sys, "argv", [script, *flags, "--output", "results"])
    runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
    assert "are in results" in capsys.readouterr().out
    results = tmp_path / "results"
    assert not [file for file in files if not (results / file).exists()]
    keras_file = next(results.glob("*.keras"))
    model = keras.saving.load_model(keras_file)
    if not model.num_classes:
        generated = np.asarray(model.generate(2, seed=0))
        assert generated.shape == (2, *model.data_shape)
        assert np.isfinite(generated).all()


def test_the_package_data_name_every_file():
    """Every file that is not a module is in `setup.cfg`, or an installation would lack it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = {
        package: [pattern.strip() for pattern in listed.split(",")]
        for package, listed in config["options.package_data"].items()
    }
    files = subprocess.run(
        ["git", "ls-files", "keras_gen"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for file in files:
        path = pathlib.PurePosixPath(file)
        if path.suffix == ".py":
            assert (ROOT / path.parent / "__init__.py").is_file(), file
            continue
        named = [
            path.is_relative_to(package.replace(".", "/"))
            and path.relative_to(package.replace(".", "/")).match(pattern)
            for package, listed in patterns.items()
            for pattern in listed
        ]
        assert any(named), file


def test_slow_tests_have_quick_siblings(request):
    """Of the files that this run has collected."""
    collected = request.config.stash[COLLECTED]
    quick = set(collected) - slow_of(collected)
    files = {name.partition("::")[0] for name in collected}
    for pattern, siblings in SLOW.items():
        for sibling in siblings:
            if sibling.partition("::")[0] in files:
                assert matching(sibling, quick), sibling
        if pattern.partition("::")[0] in files:
            assert matching(pattern, collected), pattern


def test_the_wheel_contains_the_package_and_works_alone(tmp_path):
    """The wheel is built from the sdist. Installed, it loads its data and answers a command."""

    def run(*command, env=None):
        finished = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=env
        )
        return finished.stdout

    dist = tmp_path / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT))
    version = keras_gen.__version__
    wheel = dist / f"keras_gen-{version}-py3-none-any.whl"
    assert set(dist.iterdir()) == {wheel, dist / f"keras_gen-{version}.tar.gz"}
    installed = tmp_path / "installed"
    options = ["--no-deps", "--no-index", "--target", str(installed)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))

    def files(folder):
        paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    assert files(installed / "keras_gen") == files(PACKAGE)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    output = run(str(installed / "bin" / "keras-gen"), "--version", env=environment)
    assert output.startswith(f"keras_gen {version}\n")
    # To load a saved model, importing the package is enough.
    tiny_vae()[0].save(tmp_path / "vae.keras")
    program = (
        "import keras, keras_gen\n"
        "print(keras_gen.__file__)\n"
        "print(int(keras_gen.data.load('mnist_mini')[0].cardinality()))\n"
        "print(keras.saving.load_model('vae.keras').__class__)"
    )
    output = run(sys.executable, "-c", program, env=environment)
    file, batches, kind = output.splitlines()
    assert kind == "<class 'keras_gen.models.vae.VAE'>"
    assert pathlib.Path(file).is_relative_to(installed)
    assert int(batches) == -(-10_000 // 128)
