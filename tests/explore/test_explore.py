"""The page of `keras-gen explore` in a real browser, and the end of the command."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_gen import cli
from keras_gen.evaluation import heat_maps
from keras_gen.runs import RunFolder
from keras_gen.runs import train as run
from keras_gen.runs.recipes import VAEConfig

CHROMIUM = shutil.which("chromium")
PROGRAM = "import sys; sys.argv[0] = 'keras-gen'; from keras_gen.cli import main; main()"
READ = """
image => image.src.startsWith('data:') &&
    fetch(image.src).then(answer => answer.arrayBuffer()).then(bytes => [...new Uint8Array(bytes)])
"""


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def trained(tmp_path, unpublished):
    """The run of a conditional VAE of images with one bright quarter, which the label names."""
    labels = np.arange(160) % 4
    random = np.random.default_rng(0)
    images = random.random((160, 12, 12), dtype=np.float32) / 4
    for image, label in zip(images, labels, strict=True):
        image[6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += random.uniform(0.25, 0.75)
    np.savez(tmp_path / "x.npz", x=images, y=labels)
    config = VAEConfig(
        data=str(tmp_path / "x.npz"),
        network="mlp",
        latent_size=3,
        conditional=True,
        kl_weight=0.01,
        epochs=8,
        batch_size=24,
        learning_rate=5e-3,
        images_every=99,
        runs=tmp_path / "runs",
        savedmodels=tmp_path / "savedmodels",
    )
    return run.train(config)


@contextlib.contextmanager
def exploring(folder, port):
    """Run `keras-gen explore` in a process of its own, until it is stopped."""
    environment = dict(os.environ)
    environment.pop("PYTEST_CURRENT_TEST", None)  # or NiceGUI would take this for its own test
    command = [sys.executable, "-c", PROGRAM, "explore", str(folder), "--port", str(port)]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait(condition, seconds=5):
    """Wait until a function returns a true value, and return this value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser_sliders_classes_and_strokes_change_the_images(trained, port, tmp_path):
    from playwright.sync_api import sync_playwright

    requests = []
    messages = []
    before = set(trained.iterdir())
    folder = RunFolder(trained)
    model = folder.load_model()
    test, labels = next(run.load_data(folder.read_config())[1].as_numpy_iterator())
    with exploring(trained, port) as process, sync_playwright() as playwright:
        announced = process.stdout.readline()
        assert announced == f"The page is http://127.0.0.1:{port}. Ctrl-C stops the server.\n"
        wait(lambda: listening(port))
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        for each in (page.context, phone):
            each.on("request", lambda request: requests.append(request.url))
            each.on("console", lambda message: messages.append(message.text))
            each.on("weberror", lambda error: messages.append(str(error)))
        page.on("websocket", lambda socket: requests.append(socket.url))

        def shown(name):
            """Return the pixels of the image with this label."""
            content = wait(lambda: page.get_by_label(name).locator("img").evaluate(READ))
            return np.asarray(Image.open(io.BytesIO(bytes(content))), float)

        def changed(name, old):
            """Wait until the image differs from `old`, and return it."""

            def new_pixels():
                new = shown(name)
                is_new = new.shape == (12, 12) and np.abs(new - old).max() > 8
                return [new] if is_new else None

            return wait(new_pixels)[0]

        def values():
            """Return the values of the sliders."""
            return [float(slider.get_attribute("aria-valuenow")) for slider in sliders.all()]

        def brightest_quarter():
            return shown("decoded image").reshape(2, 6, 2, 6).mean(axis=(1, 3)).argmax()

        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("A variational autoencoder").wait_for()
        image = changed("decoded image", np.zeros(()))
        # === A slider ===
        sliders = page.get_by_role("slider")
        assert sliders.count() == 3
        limits = {
            (s.get_attribute("aria-valuemin"), s.get_attribute("aria-valuemax"))
            for s in sliders.all()
        }
        assert limits == {("-3", "3")}
        assert page.get_by_role("heading", level=2).count() >= 2
        box = sliders.first.bounding_box()
        middle = box["y"] + box["height"] / 2
        for place in (0.02, 0.98):
            page.mouse.move(box["x"] + box["width"] / 2, middle)
            page.mouse.down()
            page.mouse.move(box["x"] + place * box["width"], middle, steps=5)
            page.mouse.up()
            image = changed("decoded image", image)
            page.wait_for_timeout(200)  # Quasar ignores a second drag within 50 milliseconds
        wait(lambda: values()[0] > 2.5)
        page.get_by_role("button", name="Reset to zero").click()
        wait(lambda: not any(values()))
        # === The class ===
        classes = page.get_by_role("group", name="class", exact=True)
        classes.get_by_role("button", name="3").click()
        wait(lambda: brightest_quarter() == 3)
        classes.get_by_role("button", name="2").click()
        wait(lambda: brightest_quarter() == 2)
        # === A stroke ===
        assert page.get_by_text("Draw an image, or take").is_visible()
        assert not shown("canvas").any()
        box = page.get_by_label("canvas").bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.25 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.25 * box["height"], steps=10)
        page.mouse.up()
        wait(lambda: shown("canvas")[2:4, 2:].all())  # the stroke is complete
        drawing = shown("canvas")
        assert not drawing[6:].any()
        x = drawing[None, ..., None].astype("float32") / 255
        label = tf.constant([2])
        reconstruction = 255 * model.reconstruct(x, label).numpy()[0, ..., 0]
        score = model.score(x, label).numpy()[0]
        wait(lambda: np.abs(shown("reconstruction") - reconstruction).max() < 1.1)
        heat_map = 255 * heat_maps(model.score_per_feature(x, label).numpy())[0]
        wait(lambda: np.abs(shown("heat map") - heat_map).max() < 4)  # of one color step
        share = 100 * np.mean(model.score(test, tf.constant(labels)).numpy() < score)
        text = f"Score {score:.4g} nats: more anomalous than {share:.0f} % of the test images"
        page.get_by_text(text).wait_for(timeout=5000)
        page.screenshot(path=tmp_path / "1200.png", full_page=True)
        page.get_by_role("button", name="Test image").click()
        example = changed("canvas", drawing)
        page.get_by_text(text).wait_for(state="detached", timeout=5000)
        page.get_by_role("button", name="Copy to sliders").click()
        wait(lambda: all(values()))
        page.get_by_role("button", name="Clear").click()
        changed("canvas", example)
        # === A finger ===
        page = phone.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        wait(lambda: not shown("canvas").any())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        # an image that is loaded later would move the canvas
        page.wait_for_function("[...document.images].every(image => image.naturalWidth)")
        page.get_by_label("canvas").scroll_into_view_if_needed()
        box = page.get_by_label("canvas").bounding_box()
        finger = phone.new_cdp_session(page)
        for kind, place in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8)):
            point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + place * box["height"]}
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        wait(lambda: shown("canvas")[3:9, 5:7].all())
        page.screenshot(path=tmp_path / "390.png", full_page=True)
        assert messages == []
        # === The end ===
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        browser.close()
        errors = [
            line
            for line in process.stderr.read().splitlines()
            if not re.match("[IWE]0000|WARNING: All log", line)
        ]
    assert errors == ["keras-gen: stopped"]
    hosts = {urllib.parse.urlsplit(url)[:2] for url in requests if not url.startswith("data:")}
    assert hosts == {("http", f"127.0.0.1:{port}"), ("ws", f"127.0.0.1:{port}")}
    assert set(trained.iterdir()) == before


@pytest.fixture
def finished(tmp_path):
    (tmp_path / "model.keras").touch()
    return str(tmp_path)


def refused(capsys, *arguments):
    """Return the error of a `keras-gen explore` that is refused."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["explore", *arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_port_that_is_not_free_is_refused(finished, capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        error = refused(capsys, finished, "--port", str(taken))
    assert f"keras-gen: error: `--port` must be a free port. Received: {taken} (" in error
    assert "Choose another port." in error
    error = refused(capsys, finished, "--port", "70000")
    assert "`--port` must be a free port. Received: 70000" in error


def test_without_nicegui_the_error_says_how_to_install_it(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert "pip install 'keras_gen[explore]'" in refused(capsys, finished)
