"""The page of `keras-gen explore` in a real browser and without one, and the end of the command."""

import asyncio
import base64
import contextlib
import importlib.util
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
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
from keras_gen.runs.report import subtitle

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


# === The page without a browser ===

needs_nicegui = pytest.mark.skipif(
    importlib.util.find_spec("nicegui") is None, reason="nicegui is not installed"
)


class Computations:
    """Stands for an `Exploration`: simple formulas in place of a model.

    The decoded image has the latents as its pixels, for a latent of 0 the grey value 0.5.
    """

    def __init__(self, size=3, num_classes=None, can_encode=True, can_generate=True, binary=False):
        self.model = types.SimpleNamespace(num_classes=num_classes)
        self.size = size
        self.order = np.arange(size)[::-1]
        self.x = np.full((2, 6, 8, 1), 1.0 if binary else 0.25)
        self.x[0, :, :4] = 0
        self.x[1] = self.x[0]
        self.labels = None if num_classes is None else np.array([2, 2])
        self.signatures = ["encode"] * can_encode + ["generate"] * can_generate
        self.has_heat_maps = can_encode
        self.test_scores = np.repeat([0.0, 40.0], 500)
        self.encoded = np.zeros((1, size))
        self.decoded = []

    def decode(self, units, labels):
        self.decoded.append((units.tolist(), None if labels is None else labels.tolist()))
        return 0.5 + units[:, None, :, None] / 10

    def sample_latents(self, seeds, labels):
        [seed] = seeds
        return np.full((1, self.size), 0.5 if seed == 0 else -1.5)

    def encode(self, x, labels):
        return self.encoded

    def reconstruct(self, x, labels):
        return 1 - x

    def anomaly_score(self, x, labels):
        return np.array([10.0 + (0 if labels is None else labels[0])])

    def describe_score(self, score):
        return f"a score of {score}"

    def heat_map(self, x, labels):
        return np.repeat(x / 2, 3, axis=-1) if self.has_heat_maps else None


class Window:
    """A browser window without a browser, by NiceGUI's simulation of a user."""

    def __init__(self, user, page):
        self.user = user
        self.page = page

    def all(self, kind):
        return sorted(self.user.find(kind=kind).elements, key=lambda element: element.id)

    def image(self, name):
        from nicegui import ui

        return {image.props["aria-label"]: image for image in self.all(ui.interactive_image)}[name]

    def pixels(self, name):
        """Return the pixels of an image in [0, 1]."""
        content = base64.b64decode(self.image(name).source.removeprefix("data:image/png;base64,"))
        return np.asarray(Image.open(io.BytesIO(content)), float) / 255

    def buttons(self):
        from nicegui import ui

        return [button.text for button in self.all(ui.button)]

    def texts(self):
        from nicegui import ui

        return [label.text for label in self.all(ui.label)]

    async def updated(self):
        """Wait until the page shows the last changes."""
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not self.page.changed:
                return
        raise TimeoutError

    async def click(self, button):
        self.user.find(button).click()
        await self.updated()

    async def point(self, event, x, y, buttons=1):
        """Move the mouse over the canvas."""
        place = {"mouse_event_type": event, "image_x": x, "image_y": y, "buttons": buttons}
        for listener in list(self.image("canvas")._event_listeners.values()):
            if listener.type == "mouse":
                with self.user:
                    self.image("canvas")._handle_event({"listener_id": listener.id, "args": place})
        await self.updated()


def visit(computations, act):
    """Open the page in a window, and do something there."""
    from nicegui.testing import user_simulation

    from keras_gen.explore.page import Page

    pages = []

    async def main():
        root = lambda: pages.append(Page(computations, "my run", "A kind of model"))  # noqa: E731
        async with user_simulation(root) as user:
            await user.open("/")
            window = Window(user, pages[-1])
            await window.updated()
            await act(window)

    asyncio.run(main())


@needs_nicegui
@pytest.mark.parametrize(("size", "num_classes"), [(10, None), (11, 10), (12, 11)])
def test_at_most_ten_latents_have_a_slider_and_at_most_ten_classes_a_button(size, num_classes):
    from nicegui import ui

    computations = Computations(size, num_classes, can_encode=False, can_generate=False)

    async def act(window):
        sliders = window.all(ui.slider)
        names = [f"z{latent}" for latent in range(size)[::-1]][:10]
        assert [slider.props["aria-label"] for slider in sliders] == names
        for slider in sliders:
            limits = [slider.props[name] for name in ("min", "max", "step")]
            assert (*limits, slider.value, slider.LOOPBACK) == (-3, 3, 0.05, 0, False)
        texts = window.texts()
        assert texts[:2] == ["my run", "A kind of model"]
        assert {"Latents", "Draw", *names} <= set(texts)
        assert texts.count("+0.00") == 10
        others = re.findall(r"The other (\d+) latents have no slider", " ".join(texts))
        assert others == ([] if size == 10 else [str(size - 10)])
        assert "scores of 2 test images" in " ".join(texts)
        assert "heat map" not in " ".join(texts)
        assert window.buttons() == ["Reset to zero", "Clear", "Test image"]
        assert len(window.all(ui.interactive_image)) == 2
        labels = None if num_classes is None else [0]
        assert computations.decoded == [([[0.0] * size], labels)]
        if num_classes is not None:
            [choice] = window.all(ui.toggle if num_classes == 10 else ui.select)
            assert (choice.value, list(choice.options)) == (0, list(range(num_classes)))
            assert choice.props["aria-label"] == "class"
        [timer] = window.all(ui.timer)
        assert timer.interval == 0.05
        answer = await window.user.http_client.get("/")
        assert "touch-action: none" in answer.text  # a finger draws, and does not scroll

    visit(computations, act)


@needs_nicegui
def test_sliders_buttons_and_classes_change_the_latents():
    from nicegui import ui

    computations = Computations(12, num_classes=4)

    async def act(window):
        sliders = {slider.props["aria-label"]: slider for slider in window.all(ui.slider)}
        assert computations.decoded == [([[0.5] * 12], [0])]  # the sample of the seed 0
        np.testing.assert_allclose(window.pixels("decoded image"), 0.55, atol=0.005)
        with window.user:
            sliders["z7"].value = -2
        await window.updated()
        assert computations.decoded[-1][0] == [[0.5] * 7 + [-2] + [0.5] * 4]
        assert "−2.00" in window.texts()
        await window.click("Random")
        assert computations.decoded[-1][0] == [[-1.5] * 12]
        assert {slider.value for slider in sliders.values()} == {-1.5}
        await window.click("Reset to zero")
        assert computations.decoded[-1][0] == [[0.0] * 12]
        computations.encoded = np.array([[0.0, 2.0, 5.0, -5.0, 0.123, *[0.0] * 7]])
        await window.click("Copy to sliders")
        assert [sliders[f"z{latent}"].value for latent in (2, 3, 4)] == [3, -3, 0.12]
        assert computations.decoded[-1][0][0][:2] == [0, 2]
        computations.encoded[0, 1] = 1.0  # only a latent without a slider changes
        await window.click("Copy to sliders")
        assert computations.decoded[-1][0][0][:2] == [0, 1]
        [choice] = window.all(ui.toggle)
        with window.user:
            choice.value = 3
        await window.updated()
        assert computations.decoded[-1][1] == [3]

    visit(computations, act)


@needs_nicegui
@pytest.mark.parametrize("binary", [False, True])
def test_the_canvas_shows_strokes_and_test_images_with_their_score(binary):
    from nicegui import ui

    computations = Computations(num_classes=4, binary=binary)
    hints = {"canvas": "draw here", "reconstruction": "reconstruction", "heat map": "heat map"}

    async def act(window):
        def blue_bars():
            [histogram] = window.all(ui.html)
            bars = re.findall(r'<rect x="(\d+)".* height="(.*?)" fill="(.*?)"', breaks(histogram))
            assert [int(place) for place, _, _ in bars] == list(range(40))
            assert max(float(height) for _, height, _ in bars) == 1
            return [color for _, _, color in bars].count("#2f5d8a")

        def is_blank():
            for name, hint in hints.items():
                assert (hint in window.image(name).content) == (not window.pixels(name).any())
            return not window.pixels("canvas").any()

        assert "brighter pixels add more to the score" in " ".join(window.texts())
        assert is_blank()
        assert "Draw an image, or take a test image." in window.texts()
        assert blue_bars() == 0
        await window.point("pointermove", 1, 3, buttons=0)
        assert is_blank()
        await window.point("pointerdown", 1, 1.5)
        await window.point("pointermove", 7, 1.5)
        drawing = window.pixels("canvas")
        assert drawing.shape == (6, 8)
        assert drawing[1, 4] > 0  # between the two points
        assert set(np.unique(drawing)) <= {0, 1} or not binary
        assert binary or len(np.unique(drawing)) > 2
        assert not is_blank()
        np.testing.assert_allclose(window.pixels("reconstruction"), 1 - drawing, atol=0.005)
        assert window.pixels("heat map").shape == (6, 8, 3)
        np.testing.assert_allclose(window.pixels("heat map")[..., 0], drawing / 2, atol=0.005)
        assert "a score of 10.0" in window.texts()
        assert blue_bars() == 10  # the bars from 0 to 9
        await window.point("pointerleave", 7, 1.5)
        await window.point("pointermove", 7, 5)
        assert not window.pixels("canvas")[3].any()  # the mouse was released elsewhere
        for _ in range(2):  # the second time, the class stays the same
            await window.click("Clear")
            assert is_blank()
            await window.click("Test image")
            example = computations.x[0, ..., 0]
            np.testing.assert_allclose(window.pixels("canvas"), example, atol=0.005)
        [choice] = window.all(ui.toggle)
        assert choice.value == 2  # the label of the image
        assert "a score of 12.0" in window.texts()

    def breaks(histogram):
        return histogram.content.replace("/>", "/>\n")

    visit(computations, act)


@needs_nicegui
def test_explore_serves_the_page_on_this_machine_only(tmp_path, monkeypatch):
    from keras_gen.explore import page

    model = types.SimpleNamespace(columns=None)
    config = VAEConfig(name="my run")
    folder = types.SimpleNamespace(
        path=tmp_path, read_config=lambda: config, load_model=lambda: model
    )
    images = tf.data.Dataset.from_tensors(np.zeros((1100, 2, 2, 1)))
    served, started, pages = [], [], []
    monkeypatch.setattr(page, "RunFolder", lambda run: folder)
    monkeypatch.setattr(page, "load_data", lambda config: (None, images))
    monkeypatch.setattr(page, "Exploration", lambda *found: found)
    monkeypatch.setattr(page, "Page", lambda *found: pages.append(found))
    monkeypatch.setattr(page.app, "on_startup", started.append)
    monkeypatch.setattr(page.ui, "run", lambda root, **found: served.append((root, found)))
    with pytest.raises(KeyboardInterrupt):  # although the server lost the signal of Ctrl-C
        page.explore(tmp_path, 8123, show=True)
    [(root, arguments)] = served
    assert (arguments.pop("host"), arguments.pop("port")) == ("127.0.0.1", 8123)
    del arguments["favicon"]
    assert arguments == {
        "title": "my run",
        "show": True,
        "reload": False,
        "show_welcome_message": False,
    }
    root()
    [((found, x, labels), *texts)] = pages
    assert (found, len(x), labels, texts) == (model, 1000, None, ["my run", subtitle(config)])
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    started[0]()
    announced = stream.buffer.getvalue().decode()  # without waiting for more output
    assert announced == "The page is http://127.0.0.1:8123. Ctrl-C stops the server.\n"
    model.columns = ["a column"]
    with pytest.raises(ValueError, match=r"must be trained on images.* a model of a table"):
        page.explore(tmp_path)


# === Errors of the command ===


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
