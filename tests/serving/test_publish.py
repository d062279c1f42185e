import importlib
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from support import (
    compiled_for_publishing,
    tiny_autoencoder,
    tiny_vae,
    verified_here,
    without_verifying,
)

from keras_gen import RegularizedAutoencoder, serving
from keras_gen._files import damaged_files, folder_lock
from keras_gen._versions import versions
from keras_gen.serving.model_card import CARD, write_card
from keras_gen.serving.server_config import write_server_config
from keras_gen.serving.verify import CHECKSUMS


@pytest.mark.usefixtures("unverified")
def test_versions_count_up_and_earlier_ones_stay(images, tmp_path):
    model = compiled_for_publishing()
    base = tmp_path / "models" / "digits"
    assert serving.publish(model, base) == base / "1"
    before = tf.saved_model.load(str(base / "1")).signatures["encode"](inputs=tf.constant(images))[
        "latents"
    ]
    (base / "7").mkdir()
    model.set_weights([weights + 1 for weights in model.get_weights()])
    assert serving.publish(model, base) == base / "8"
    assert sorted(folder.name for folder in base.iterdir()) == ["1", "7", "8"]
    after = [
        tf.saved_model.load(str(base / v)).signatures["encode"](inputs=tf.constant(images))[
            "latents"
        ]
        for v in ("1", "8")
    ]
    np.testing.assert_array_equal(after[0], before)
    assert not np.allclose(after[1], before)


def test_a_model_with_a_problem_is_not_published(tmp_path, monkeypatch):
    without_verifying(monkeypatch, verified_here)
    model = compiled_for_publishing()
    score = model.score
    monkeypatch.setattr(
        model,
        "score_and_features",
        lambda x, condition: (score(x) + 1 / tf.cast(tf.shape(x)[0], tf.float32), None),
    )
    with pytest.raises(
        serving.PublishError,
        match=r"Verifying version 1 of digits failed: signature score: score of a row",
    ):
        serving.publish(model, tmp_path / "digits")
    assert list((tmp_path / "digits").iterdir()) == []


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    model = compiled_for_publishing()

    def write_half(endpoints, path):
        path.mkdir()
        (path / "saved_model.pb").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(
        importlib.import_module("keras_gen.serving.publish"), "write_saved_model", write_half
    )
    with pytest.raises(
        serving.PublishError,
        match=r"Writing version 1 of digits failed: No space left on device\. .*Is the disk full\?",
    ):
        serving.publish(model, tmp_path / "digits")
    assert list((tmp_path / "digits").iterdir()) == []


@pytest.mark.usefixtures("unverified")
def test_a_full_disk_is_an_error_and_earlier_versions_stay(tmp_path):
    """No file may exceed a limit, which the graph, the weights or the warm-up records do."""
    model, base = compiled_for_publishing(tiny_vae), tmp_path / "digits"
    serving.publish(model, base)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20_000, 2_000, 60_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            with pytest.raises(serving.PublishError, match="Writing version 2 of digits failed: "):
                serving.publish(model, base)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [path.name for path in base.iterdir()] == ["1"]
    assert damaged_files(base / "1", CHECKSUMS) == []


@pytest.mark.usefixtures("unverified")
def test_the_card_describes_the_model_and_its_training(tmp_path):
    model = compiled_for_publishing(tiny_vae)
    version = serving.publish(model, tmp_path / "mine", card="Trained for 3 epochs.\n")
    card = (version / CARD).read_text()
    assert "# mine, version 1" in card
    stack = ", ".join(
        f"{name} {version}" for name, version in versions().items() if name != "keras_gen"
    )
    own = f"by keras_gen {versions()['keras_gen']} ({stack}, Python {platform.python_version()})"
    assert own in card
    assert "## Training\n\nTrained for 3 epochs.\n\n## Limits" in card
    assert "posterior: DiagonalNormal(event_size=3)" in card
    assert "prior: StandardNormal(event_size=3)" in card
    assert f"encoder: {model.encoder.name}, {model.encoder.count_params()} parameters" in card
    assert (
        "| `encode` | `inputs` float32 [batch, 8, 8, 1] | `mean` float32 [batch, 3], "
        "`scale` float32 [batch, 3] |"
    ) in card
    assert "## Training" not in (serving.publish(model, tmp_path / "mine") / CARD).read_text()


@pytest.mark.parametrize("name", ["gan", "conditional_gan"])
def test_the_request_in_the_card_is_a_request_to_the_model(name, published, models):
    card = (published / name / "1" / CARD).read_text()
    request = json.loads(re.search("curl -d '(.*)'", card)[1])
    assert request["signature_name"] == "generate"
    _, specs = models[name].signatures()["generate"]
    assert sorted(request["inputs"]) == sorted(spec.name for spec in specs)
    assert f"/v1/models/{name}:predict" in card


def test_a_folder_is_refused_with_the_way_to_load_its_model(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(
        ValueError,
        match=r"`model` must be a keras_gen model\. Received: .*run'\)\. Load the model first.*"
        + re.escape(f"RunFolder({str(folder)!r}).load_model()"),
    ):
        serving.publish(folder, tmp_path / "savedmodels" / "mine")
    assert not (tmp_path / "savedmodels").exists()


@pytest.mark.usefixtures("unverified")
def test_the_endpoints_are_built_once(tmp_path, monkeypatch):
    model = compiled_for_publishing()
    built = []
    signatures = model.signatures
    monkeypatch.setattr(model, "signatures", lambda: built.append(1) or signatures())
    serving.publish(model, tmp_path / "digits", png=True)
    assert built == [1]


def test_a_user_defined_class_needs_no_docstring_for_its_card(tmp_path):
    class Mine(RegularizedAutoencoder):
        pass

    model, _ = tiny_autoencoder()
    write_card(Mine(model.encoder, model.decoder), tmp_path, "mine", "1", {})
    assert (
        "An autoencoder with regularizers of its weights and its latents."
        in (tmp_path / CARD).read_text()
    )


def test_the_server_configuration_is_flushed_to_disk_before_it_is_renamed(tmp_path, monkeypatch):
    (tmp_path / "vae" / "1").mkdir(parents=True)
    synced = []
    monkeypatch.setattr("keras_gen._files._sync", lambda path: synced.append(path.name))
    write_server_config(tmp_path)
    assert {"unfinished-models.config", "unfinished-batching_parameters.txt"} < set(synced)


def test_the_server_configuration_names_all_models_and_keeps_changes(tmp_path):
    for version in ("vae/1", "vae/2", "gan/1", "notes/old", "empty"):
        (tmp_path / version).mkdir(parents=True)
    write_server_config(tmp_path)
    config, batching = tmp_path / "models.config", tmp_path / "batching_parameters.txt"
    text = config.read_text()
    assert [line.split('"')[1] for line in text.splitlines() if "name:" in line] == ["gan", "vae"]
    assert 'base_path: "/models/vae"' in text
    assert "max_batch_size { value: 128 }" in batching.read_text()
    config.write_text(
        text.replace(
            '    base_path: "/models/vae"',
            '    base_path: "/models/vae"\n    model_version_policy { all {} } # mine',
        )
    )
    batching.write_text("mine")
    assert {path.name for path in tmp_path.iterdir()} == {
        "vae",
        "gan",
        "notes",
        "empty",
        config.name,
        batching.name,
    }
    changed = config.read_text()
    write_server_config(tmp_path)
    assert (config.read_text(), batching.read_text()) == (changed, "mine")
    (tmp_path / "autoencoder" / "1").mkdir(parents=True)
    write_server_config(tmp_path)
    assert "model_version_policy" in config.read_text()
    assert "autoencoder" in config.read_text()
    with pytest.raises(
        ValueError,
        match=r"`base` must be the folder of a model's versions\. Received: .*, which is a file",
    ):
        serving.publish(compiled_for_publishing(), batching)
    with pytest.raises(ValueError, match=r"`model` must be a keras_gen model\. Received: None\.$"):
        serving.publish(None, tmp_path / "vae")
    config.write_text("model_config_list { config {")
    with pytest.raises(
        ValueError,
        match=r"(?s)models\.config must hold a valid ModelServerConfig.*Correct the file or remove",
    ):
        serving.publish(compiled_for_publishing(), tmp_path / "vae")
    assert sorted(path.name for path in (tmp_path / "vae").iterdir()) == ["1", "2"]


# === Killed at any moment ===

STEPS = ("write_saved_model", "write_records", "write_card", "write_checksums", "verify")


class Killed(BaseException):
    pass


def snapshot(folder):
    """Return the files of a folder with the times at which they were changed."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def write_few_files(endpoints, folder):
    folder.mkdir()
    (folder / "saved_model.pb").write_text("a graph")
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.index").write_text("weights")


@pytest.fixture
def quick_publishing(monkeypatch):
    """The module of `publish`, which writes a few small files in place of a SavedModel."""
    module = importlib.import_module("keras_gen.serving.publish")
    monkeypatch.setattr(module, "write_saved_model", write_few_files)
    monkeypatch.setattr(module, "write_records", lambda endpoints, model, folder: {})
    monkeypatch.setattr(module, "verify", lambda folder: serving.Verification(folder, {}, 0, []))
    return module


@pytest.mark.parametrize("step", STEPS)
def test_stopped_at_any_step_it_leaves_the_old_version_and_the_next_call_continues(
    step, tmp_path, monkeypatch, quick_publishing
):
    """A process that is killed during a step leaves its unfinished folder."""
    model = compiled_for_publishing()
    base = tmp_path / "digits"
    serving.publish(model, base)
    old = snapshot(base / "1")
    original = getattr(quick_publishing, step)

    def stop(*arguments):
        original(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(quick_publishing, step, stop)
        patch.setattr("keras_gen._files.remove", lambda path: None)
        with pytest.raises(Killed):
            serving.publish(model, base)
    assert sorted(path.name for path in base.iterdir()) == ["1", "unfinished-2"]
    assert snapshot(base / "1") == old
    assert damaged_files(base / "1", CHECKSUMS) == []
    (base / "unfinished-7").mkdir()
    assert serving.publish(model, base) == base / "2"
    assert sorted(path.name for path in base.iterdir()) == ["1", "2"]
    assert snapshot(base / "1") == old
    assert damaged_files(base / "2", CHECKSUMS) == []


@pytest.mark.usefixtures("quick_publishing")
def test_two_that_publish_to_one_folder_wait_for_each_other(tmp_path):
    model = compiled_for_publishing()
    base = tmp_path / "digits"
    base.mkdir()
    other = threading.Thread(target=serving.publish, args=(model, base))
    with folder_lock(base):
        other.start()
        other.join(timeout=0.3)
        assert other.is_alive()
        assert list(base.iterdir()) == []
    other.join(timeout=60)
    assert [path.name for path in base.iterdir()] == ["1"]


KILLS = 50
PUBLISHERS = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
# Imported, and nothing computed, so that forks are safe.
from support import compiled_for_publishing, without_verifying
for line in sys.stdin:  # a folder to publish to
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    import pytest
    from keras_gen import serving
    without_verifying(pytest.MonkeyPatch())
    model = compiled_for_publishing()
    base = line.strip()
    open(base + ".ready", "w").close()
    serving.publish(model, base)
    open(base + ".done", "w").close()
    os._exit(0)
"""


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_the_old_versions_or_a_complete_new_one(tmp_path):
    """A process that publishes is killed by SIGKILL at moments spread over all its work.

    It does not verify, which writes nothing.
    """
    model = compiled_for_publishing()
    with pytest.MonkeyPatch.context() as patch:
        without_verifying(patch)
        serving.publish(model, tmp_path / "first")
    old = snapshot(tmp_path / "first" / "1")
    command = [sys.executable, "-c", PUBLISHERS, str(pathlib.Path(__file__).parents[1])]
    lengths = []
    outcomes = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as publishers:
        for number in range(KILLS + 2):
            base = tmp_path / f"models-{number}" / "digits"
            shutil.copytree(tmp_path / "first", base, copy_function=shutil.copy2)
            publishers.stdin.write(f"{base}\n")
            publishers.stdin.flush()
            child = int(publishers.stdout.readline())
            wait_for(base.with_name("digits.ready"))
            began = time.monotonic()
            if number < 2:  # how long it takes without a kill
                wait_for(base.with_name("digits.done"))
                lengths.append(time.monotonic() - began)
                continue
            time.sleep(1.3 * max(lengths) * (number - 1.5) / KILLS)
            os.kill(child, signal.SIGKILL)
            versions = sorted(path.name for path in base.iterdir() if path.name.isdecimal())
            outcomes.append(len(versions))
            assert versions in (["1"], ["1", "2"])
            assert all(damaged_files(base / version, CHECKSUMS) == [] for version in versions)
            assert snapshot(base / "1") == old
            assert all(path.name in (*versions, "unfinished-2") for path in base.iterdir())
        together = tmp_path / "together" / "digits"  # three at once wait for one another
        shutil.copytree(tmp_path / "first", together)
        publishers.stdin.write(f"{together}\n" * 3)
        publishers.stdin.flush()
        wait_for(together / "4")
        publishers.stdin.close()
    assert sorted(path.name for path in together.iterdir()) == ["1", "2", "3", "4"]
    assert all(damaged_files(version, CHECKSUMS) == [] for version in together.iterdir())
    assert len(outcomes) == KILLS
    assert set(outcomes) == {1, 2}
    with pytest.MonkeyPatch.context() as patch:
        without_verifying(patch)
        for number in range(2, 6):  # the next call continues as if nothing had happened
            base = tmp_path / f"models-{number}" / "digits"
            newest = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
            assert serving.publish(model, base).name == str(newest + 1)
            assert not list(base.glob("unfinished-*"))
