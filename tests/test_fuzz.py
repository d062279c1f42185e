"""Damaged checkpoints, model files and SavedModels: a result or an error of ours, never a crash.

Each damaged copy is used in a process of its own that is forked for many copies, so that a crash or
an endless loop would be seen.
"""

import json
import pathlib
import random
import shutil
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, tiny

sys.path.insert(0, str(pathlib.Path(__file__).parent / "runs"))
from command import Forked

from keras_gen._files import damaged_files
from keras_gen.fitting import CheckpointError, Checkpoints
from keras_gen.fitting.checkpoints import CHECKSUMS
from keras_gen.runs import RunFolder
from keras_gen.serving import verify


def damaged(content, seed):
    """Return a copy of a file with flipped bytes, a cut end, or a cut and a filled end."""
    generator = random.Random(seed)
    content = bytearray(content)
    kind = generator.choice(["flips", "cut", "filled", "doubled", "empty"])
    if kind == "flips":
        for _ in range(generator.choice([1, 3, 30])):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "cut":
        del content[generator.randrange(len(content)) :]
    elif kind == "filled":
        start = generator.randrange(len(content))
        content[start:] = bytes(len(content) - start)
    elif kind == "doubled":
        content.extend(bytes(content))
    else:
        content.clear()
    return bytes(content)


def damage(folder, copy, seed):
    """Copy a folder, and damage one of its files. Return the path of the damaged file."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    # another generator than that of the damage, or each file would have two kinds of damage only
    chosen = random.Random(f"file {seed}").choice(files)
    chosen.write_bytes(damaged(chosen.read_bytes(), seed) if chosen.stat().st_size else b"x")
    return chosen


# === What runs in the process ===


def _outcome(function, errors):
    """Return the result of a function, or the text of an error of one of the given types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function()
        except errors as error:
            return f"{type(error).__name__}: {error}"


def _resume(folder):
    def resume():
        model = tiny("autoencoder", run_eagerly=True)
        images = np.random.default_rng(0).random((8, *IMAGE), dtype=np.float32)
        model.fit(images, epochs=2, verbose=0, callbacks=[Checkpoints(folder)])
        assert all(np.isfinite(weight).all() for weight in model.get_weights())

    return _outcome(resume, (ValueError, CheckpointError))


def _load(path):
    folder = RunFolder(path.parent)

    def load():
        return bool(np.isfinite(folder.load_model().get_weights()[0]).all())

    return _outcome(load, ValueError)


def _verify(folder):
    def problems():
        found = verify(folder).problems
        assert all(isinstance(problem, str) for problem in found)
        return found

    return _outcome(problems, ValueError)


def _fuzz(kind, source, seeds):
    """Use damaged copies one after the other, and write the outcomes."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for seed in seeds:
        copy = pathlib.Path("copy")
        path = damage(pathlib.Path(source), copy, seed)
        outcome = {"checkpoints": _resume, "models": _load, "savedmodels": _verify}[kind](
            path if kind == "models" else copy
        )
        with open("outcomes.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps([seed, path.name, outcome]) + "\n")


# === Tests ===

MANY = range(100, 350)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders with a checkpoint, a model file and the parts of a SavedModel that are read."""
    base = tmp_path_factory.mktemp("sources")
    model = tiny("autoencoder", run_eagerly=True)
    images = np.random.default_rng(0).random((8, *IMAGE), dtype=np.float32)
    model.fit(images, verbose=0, callbacks=[Checkpoints(base / "checkpoints")])
    (base / "models").mkdir()
    model.save(base / "models" / "model.keras")
    return base


def outcomes_of(kind, source, seeds, folder, seconds):
    ended = Forked(folder, _fuzz, kind, str(source), list(seeds)).ended(seconds)
    path = folder / "outcomes.jsonl"
    outcomes = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(outcomes) == len(seeds), f"{outcomes[-1:]}, then {ended.error[-2000:]}"
    assert ended.code == 0, ended.error[-2000:]
    return [outcome for _, _, outcome in outcomes]


@pytest.mark.parametrize("kind", ["checkpoints", "models"])
def test_damaged_files_are_errors_of_ours(kind, sources, tmp_path):
    outcomes = outcomes_of(kind, sources / kind, range(12), tmp_path, 200)
    refused = sum(isinstance(outcome, str) for outcome in outcomes)
    assert refused >= len(outcomes) // 2
    if kind == "models":
        assert any("must be an intact model file" in str(outcome) for outcome in outcomes)


def test_hundreds_of_damaged_checkpoints_are_found(sources, tmp_path):
    """The damaged copies of the test below, without a training for each of them."""
    damaged_parts = set()
    for seed in MANY:
        copy = tmp_path / "copy"
        path = damage(sources / "checkpoints", copy, seed)
        original = sources / "checkpoints" / path.relative_to(copy)
        problems = damaged_files(path.parent, CHECKSUMS)
        if path.read_bytes() == original.read_bytes():
            assert not problems
            continue
        assert any(path.name in problem for problem in problems)
        damaged_parts.add((path.name, path.stat().st_size == 0))
    assert len(damaged_parts) == 8  # each of four files was emptied, and changed


@pytest.mark.parametrize("kind", ["checkpoints", "models"])
def test_hundreds_of_damaged_files_are_errors_of_ours(kind, sources, tmp_path):
    outcomes_of(kind, sources / kind, MANY, tmp_path, 1500)


def test_damage_to_a_savedmodel_is_a_problem(published, tmp_path):
    for seed in range(40):
        copy = tmp_path / "copy"
        path = damage(published / "autoencoder" / "1", copy, seed)
        original = published / "autoencoder" / "1" / path.relative_to(copy)
        if path.read_bytes() == original.read_bytes():
            continue
        found = verify(copy).problems
        assert found
        assert any(path.name in problem for problem in found) or path.name == "SHA256SUMS", found
