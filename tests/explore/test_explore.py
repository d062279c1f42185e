"""The page of `keras-gen explore`, in a real browser, and how the command ends."""

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
from keras_gen.runs import train as run
from keras_gen.runs.config import VAEConfig, read
from keras_gen.runs.folder import load_run

CHROMIUM = shutil.which("chromium")
PROGRAM = "import sys; sys.argv[0] = 'keras-gen'; from keras_gen.cli import main; main()"
READ = "image => image.src.startsWith('data:') && fetch(image.src).then(got => got.arrayBuffer()).then(got => [...new Uint8Array(got)])"


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def trained(tmp_path, unpublished):
    """The run of a conditional VAE of images of which a quarter is bright, the label says which."""
    labels, random = np.arange(160) % 4, np.random.default_rng(0)
    images = random.random((160, 12, 12), dtype=np.float32) / 4
    for image, label in zip(images, labels, strict=True):
        image[6 * (label // 2) :, 6 * (label % 2) :][:6, :6] += random.uniform(0.25, 0.75)
    np.savez(tmp_path / "x.npz", x=images, y=labels)
    folders = {
        "data": str(tmp_path / "x.npz"),
        "runs": tmp_path / "runs",
        "savedmodels": tmp_path / "savedmodels",
    }
    few = {"network": "mlp", "latent_size": 3, "conditional": True, "kl_weight": 0.01}
    return run.train(
        VAEConfig(epochs=8, batch_size=24, learning_rate=5e-3, pictures_every=99, **few, **folders)
    )


@contextlib.contextmanager
def exploring(folder, port):
    """`keras-gen explore` of a run in a process of its own, which is stopped by Ctrl-C."""
    # NiceGUI would take the process for a test of its own
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"
    }
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


def wait(seconds, what):
    """Wait until a function returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser_sliders_classes_and_strokes_change_what_is_shown(trained, port, tmp_path):
    from playwright.sync_api import sync_playwright

    asked, said = [], []
    before, model = set(trained.iterdir()), load_run(trained)
    test, labels = next(run.load_data(read(trained))[1].as_numpy_iterator())
    with exploring(trained, port) as process, sync_playwright() as playwright:
        assert (
            process.stdout.readline() == f"The page is http://127.0.0.1:{port}. Ctrl-C ends it.\n"
        )
        wait(5, lambda: listening(port))
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        for each in (page.context, phone):
            each.on("request", lambda request: asked.append(request.url))
            each.on("console", lambda message: said.append(message.text))
            each.on("weberror", lambda error: said.append(str(error)))
        page.on("websocket", lambda socket: asked.append(socket.url))

        def shown(name):
            content = wait(5, lambda: page.get_by_label(name).locator("img").evaluate(READ))
            return np.asarray(Image.open(io.BytesIO(bytes(content))), float)

        def changed(name, old):
            return wait(
                5,
                lambda: (
                    (new := shown(name)).shape == (12, 12) and np.abs(new - old).max() > 8 and [new]
                ),
            )[0]

        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("A variational autoencoder").wait_for()
        picture = changed("what the latents make", np.zeros(()))
        # === a slider, dragged and by its keys ===
        sliders = page.get_by_role("slider")
        assert sliders.count() == 3
        box = sliders.first.bounding_box()
        for place in (0.02, 0.98):
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + place * box["width"], box["y"] + box["height"] / 2, steps=5)
            page.mouse.up()
            picture = changed("what the latents make", picture)
            page.wait_for_timeout(200)  # Quasar takes no second drag within a twentieth of a second
        wait(5, lambda: float(sliders.first.get_attribute("aria-valuenow")) > 2.5)
        page.get_by_role("button", name="Reset to zero").click()
        wait(
            5,
            lambda: (
                not any(float(slider.get_attribute("aria-valuenow")) for slider in sliders.all())
            ),
        )
        # === the class ===
        for label in (3, 2):
            page.get_by_role("group", name="class", exact=True).get_by_role(
                "button", name=str(label)
            ).click()
            wait(
                5,
                lambda: (
                    shown("what the latents make").reshape(2, 6, 2, 6).mean(axis=(1, 3)).argmax()
                    == label
                ),
            )  # noqa: B023
        # === a stroke ===
        assert page.get_by_text("Draw, or take").is_visible()
        assert not shown("what you draw").any()
        box = page.get_by_label("what you draw").bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.25 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.25 * box["height"], steps=10)
        page.mouse.up()
        drawing = wait(5, lambda: (new := shown("what you draw"))[2:4, 2:].all() and [new])[
            0
        ]  # the whole of it
        assert not drawing[6:].any()
        x, label = drawing[None, ..., None].astype("float32") / 255, tf.constant([2])
        reconstruction, score = (
            255 * model.reconstruct(x, label).numpy()[0, ..., 0],
            model.score(x, label).numpy()[0],
        )
        wait(5, lambda: np.abs(shown("its reconstruction") - reconstruction).max() < 1.1)
        share = 100 * np.mean(model.score(test, tf.constant(labels)).numpy() < score)
        words = f"Score {score:.4g} nats: stranger than {share:.0f} % of the test images"
        page.get_by_text(words).wait_for(timeout=5000)
        page.screenshot(path=tmp_path / "1200.png", full_page=True)
        page.get_by_role("button", name="Test image").click()
        example = changed("what you draw", drawing)
        page.get_by_text(words).wait_for(state="detached", timeout=5000)
        page.get_by_role("button", name="To the sliders").click()
        wait(
            5, lambda: all(float(slider.get_attribute("aria-valuenow")) for slider in sliders.all())
        )
        page.get_by_role("button", name="Clear").click()
        changed("what you draw", example)
        # === a finger ===
        page = phone.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        wait(5, lambda: not shown("what you draw").any())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.wait_for_function(
            "[...document.images].every(image => image.naturalWidth)"
        )  # what is loaded later moves the canvas
        page.get_by_label("what you draw").scroll_into_view_if_needed()
        box = page.get_by_label("what you draw").bounding_box()
        finger = phone.new_cdp_session(page)
        for kind, place in (
            ("touchStart", 0.2),
            ("touchMove", 0.5),
            ("touchMove", 0.8),
            ("touchEnd", None),
        ):
            points = (
                [{"x": box["x"] + box["width"] / 2, "y": box["y"] + place * box["height"]}]
                if place
                else []
            )
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        wait(5, lambda: shown("what you draw")[3:9, 5:7].all())
        page.screenshot(path=tmp_path / "390.png", full_page=True)
        assert said == []
        # === the end ===
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        browser.close()
        errors = [
            line
            for line in process.stderr.read().splitlines()
            if not re.match("[IWE]0000|WARNING: All log", line)
        ]
    assert errors == ["keras-gen: stopped"]
    hosts = {urllib.parse.urlsplit(url)[:2] for url in asked if not url.startswith("data:")}
    assert hosts == {("http", f"127.0.0.1:{port}"), ("ws", f"127.0.0.1:{port}")}
    assert set(trained.iterdir()) == before


@pytest.fixture
def finished(tmp_path):
    (tmp_path / "model.keras").touch()
    return str(tmp_path)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["explore", *arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_port_that_cannot_be_had_is_refused(finished, capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        error = refused(capsys, finished, "--port", str(taken))
    assert f"keras-gen: error: Expected a port that is free. Received: {taken} (" in error
    assert "Take another with --port." in error
    assert "Expected a port that is free. Received: 70000" in refused(
        capsys, finished, "--port", "70000"
    )


def test_without_nicegui_it_says_how_to_have_it(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert "pip install 'keras_gen[explore]'" in refused(capsys, finished)
