"""The web page of `keras-gen explore`.

The page has sliders that change the latents of a generated image. It also has a canvas on which the
user can draw an image, and it shows the anomaly score of the drawing.
"""

from __future__ import annotations

import base64
import functools
import io
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nicegui import app, ui
from PIL import Image

from keras_gen._files import PathLike
from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import grid
from keras_gen.explore.exploration import Canvas, Exploration
from keras_gen.runs import RunFolder
from keras_gen.runs.report import subtitle
from keras_gen.runs.train import load_data

_MAX_SLIDERS = 10
_RANGE = 3  # a slider goes from -3 to 3 standard deviations
_MAX_TEST_IMAGES = 1000
_UPDATE_INTERVAL = 0.05  # in seconds
_NUM_BARS = 40
_BLUE = "#2f5d8a"
_GREY = "#d8dbe0"
_HINT = '<text x="50%" y="52%" fill="#888" font-size="9%" text-anchor="middle">{}</text>'
_STYLE = """
body { font-family: system-ui, sans-serif; color: #1c2026; }
.nicegui-content { max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; gap: 1rem; }
.title { font-size: 1.9rem; font-weight: 600; line-height: 1.2; margin: .5rem 0 -.9rem; }
.heading { font-size: 1.25rem; font-weight: 600; }
.soft { color: #5c6470; font-size: .875rem; }
.q-btn-toggle { border: 1px solid #d8dbe0; flex-wrap: wrap; }
.q-btn-toggle .q-btn { padding: 4px 11px; }
.nicegui-card, .parts { width: 100%; }
.parts { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: flex-start; }
.pixels { flex: 1 1 14rem; max-width: 20.5rem; }
.pixels img { image-rendering: pixelated; border-radius: .3rem; }
.canvas img { touch-action: none; cursor: crosshair; }
.rest { flex: 2 1 16rem; gap: .75rem; }
.sliders {
  display: grid; gap: 0 .8rem; width: 100%; align-items: center;
  grid-template-columns: auto 1fr 3rem;
}
.histogram { width: 100%; height: 6rem; }
"""


def explore(run: PathLike, port: int = 8080, show: bool = False) -> None:
    """Serve a web page on which the user explores the model of a training run.

    Ctrl-C stops the server.

    Args:
        run: Folder of the training run, such as `runs/vae`.
        port: Port on 127.0.0.1. Other machines cannot open the page. Default: 8080.
        show: Whether to open the page in the browser. Default: False.

    Raises:
        ValueError: If the run is not finished, if the model was not trained on images, or if its
            latents are not real numbers.
        KeyboardInterrupt: When Ctrl-C has stopped the server.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    model = folder.load_model()
    if model.columns:
        raise ValueError(
            "The model must be trained on images. Received: a model of a table. "
            f"`keras-gen sample {folder.path} --given NAME=VALUE` generates rows with given "
            f"entries, and `keras-gen evaluate {folder.path}` plots the columns."
        )
    _, test_data = load_data(config)
    x, labels = as_arrays(test_data, _MAX_TEST_IMAGES)
    exploration = Exploration(model, x, labels)

    def announce() -> None:
        print(f"The page is http://127.0.0.1:{port}. Ctrl-C stops the server.", flush=True)

    def build_page() -> None:
        Page(exploration, config.name, subtitle(config))

    app.on_startup(announce)
    ui.run(
        build_page,
        host="127.0.0.1",
        port=port,
        title=config.name,
        favicon="data:,",
        show=show,
        reload=False,
        show_welcome_message=False,
    )
    # Ctrl-C sends a signal that stops the server. Usually, the server then raises the signal again.
    # Sometimes it does not, and `ui.run` returns.
    raise KeyboardInterrupt


class Page:
    """The web page of `keras-gen explore`, with sliders for latents and a canvas to draw an image.

    Each browser window has its own values of the latents, and its own image on the canvas.

    Args:
        exploration: Computations with the model and its test images.
        title: Heading of the page.
        subtitle: Text below the heading.
    """

    def __init__(self, exploration: Exploration, title: str, subtitle: str) -> None:
        num_classes = exploration.model.num_classes
        self.exploration = exploration
        self.can_encode = "encode" in exploration.signatures
        self.can_generate = "generate" in exploration.signatures
        self.labels = np.array([0]) if num_classes else None
        self.units = np.zeros((1, exploration.size))
        height, width, channels = exploration.x.shape[1:]
        is_binary = bool(np.isin(exploration.x, (0, 1)).all())
        self.canvas = Canvas((height, width, channels), is_binary)
        self.pen: tuple[float, float] | None = None  # last position, or None between lines
        self.changed = {"latents", "canvas"}
        ui.colors(primary=_BLUE)
        ui.add_css(_STYLE)
        ui.label(title).classes("title").props("role=heading aria-level=1")
        ui.label(subtitle).classes("soft")
        if num_classes:
            choice = ui.toggle if num_classes <= _MAX_SLIDERS else ui.select
            self.label = choice(list(range(num_classes)), value=0, on_change=self._choose_label)
            self.label.props("unelevated role=group aria-label=class")
        with _section("Latents"):
            self._add_sliders()
        with _section("Draw"):
            self._add_canvas()
        if self.can_generate:
            self._sample_latents(seed=0)
        ui.timer(_UPDATE_INTERVAL, self._update)

    # === Elements ===

    def _add_sliders(self) -> None:
        self.sliders: dict[int, _Slider] = {}
        self.decoded = _image("decoded image")
        with ui.column().classes("rest"):
            with ui.element().classes("sliders"):
                for latent in self.exploration.order[:_MAX_SLIDERS].tolist():
                    self.sliders[latent] = self._add_slider(latent)
            with ui.row():
                if self.can_generate:
                    _button("Random", lambda: self._sample_latents(random.getrandbits(31)))
                _button("Reset to zero", lambda: self._set_latents(np.zeros_like(self.units)))
            text = (
                "Values are in standard deviations from the mean. The first latent changes the "
                "image most."
            )
            others = self.exploration.size - _MAX_SLIDERS
            if others > 0:
                text += f" The other {others} latents have no slider."
            ui.label(text).classes("soft")

    def _add_slider(self, latent: int) -> _Slider:
        ui.label(f"z{latent}")
        slider = _Slider(
            min=-_RANGE,
            max=_RANGE,
            step=0.05,
            value=0,
            on_change=functools.partial(self._move_slider, latent),
        )
        slider.props(f"aria-label=z{latent} selection-color=transparent")
        ui.label().bind_text_from(slider, "value", _signed)
        return slider

    def _add_canvas(self) -> None:
        events = ["pointerdown", "pointermove", "pointerleave"]
        self.drawing = _image("canvas", self._draw, events).classes("canvas")
        if self.can_encode:
            self.reconstruction = _image("reconstruction")
        if self.exploration.has_heat_maps:
            self.heat_map = _image("heat map")
        with ui.column().classes("rest"):
            with ui.row():
                _button("Clear", self._clear)
                _button("Test image", self._show_test_image)
                if self.can_encode:
                    _button("Copy to sliders", self._encode_drawing)
            self.score = ui.label().classes("score")
            self.histogram = ui.html(sanitize=False).classes("histogram")
            text = (
                f"Histogram of the scores of {len(self.exploration.x):,} test images. Higher "
                "scores are more anomalous. Blue bars are below the score of the drawing."
            )
            if self.exploration.has_heat_maps:
                text += " In the heat map, brighter pixels add more to the score."
            ui.label(text).classes("soft")

    # === Events ===

    def _choose_label(self, event: Any) -> None:
        self.labels = np.array([event.value])
        self.changed |= {"latents", "canvas"}

    def _move_slider(self, latent: int, event: Any) -> None:
        self.units[0, latent] = event.value
        self.changed.add("latents")

    def _set_latents(self, units: np.ndarray) -> None:
        self.units = np.clip(units, -_RANGE, _RANGE)
        for latent, slider in self.sliders.items():
            slider.value = round(float(self.units[0, latent]), 2)
        self.changed.add("latents")

    def _sample_latents(self, seed: int) -> None:
        self._set_latents(self.exploration.sample_latents([seed], self.labels))

    def _encode_drawing(self) -> None:
        self._set_latents(self.exploration.encode(self.canvas.image[None], self.labels))

    def _draw(self, event: Any) -> None:
        position = None
        if event.buttons and event.type != "pointerleave":
            position = (event.image_x, event.image_y)
            self.canvas.line(self.pen or position, position)
            self.changed.add("canvas")
        self.pen = position

    def _clear(self) -> None:
        self.canvas.clear()
        self.changed.add("canvas")

    def _show_test_image(self) -> None:
        index = random.randrange(len(self.exploration.x))
        self.canvas.show(self.exploration.x[index])
        if self.exploration.labels is not None:
            self.label.value = int(self.exploration.labels[index])
        self.changed.add("canvas")

    # === Updates ===

    def _update(self) -> None:
        """Update the parts of the page whose inputs have changed since the last call.

        A timer calls this method 20 times per second. If a slider has moved several times between
        two calls, only the image for its last position is computed.
        """
        changed = self.changed
        self.changed = set()
        if "latents" in changed:
            self.decoded.set_source(_png(self.exploration.decode(self.units, self.labels)))
        if "canvas" in changed:
            self._update_canvas()

    def _update_canvas(self) -> None:
        x = self.canvas.image[None]
        blank = self.canvas.blank
        score = -np.inf
        text = "Draw an image, or take a test image."
        if not blank:
            score = float(self.exploration.anomaly_score(x, self.labels)[0])
            text = self.exploration.describe_score(score)
        self.score.text = text
        self.histogram.content = _histogram(self.exploration.test_scores, score)
        self.drawing.set_source(_png(x))
        self.drawing.content = _HINT.format("draw here") if blank else ""
        if self.can_encode:
            image = x if blank else self.exploration.reconstruct(x, self.labels)
            self.reconstruction.set_source(_png(image))
            self.reconstruction.content = _HINT.format("reconstruction") if blank else ""
        heat_map = self.exploration.heat_map(x, self.labels)
        if heat_map is not None:
            self.heat_map.set_source(_png(x if blank else heat_map))
            self.heat_map.content = _HINT.format("heat map") if blank else ""


class _Slider(ui.slider):
    """A slider whose value the server does not send back to the browser after the user moves it.

    If the server sent the value back, a late message would move the slider while the user drags it.
    """

    LOOPBACK = False


def _section(heading: str) -> ui.element:
    """Add a card with a heading to the page, and return the element for the card's content."""
    with ui.card().props("flat bordered"):
        ui.label(heading).classes("heading").props("role=heading aria-level=2")
        return ui.element().classes("parts")


def _button(text: str, on_click: Callable[[], None]) -> ui.button:
    return ui.button(text, on_click=on_click).props("no-caps unelevated outline")


def _image(
    name: str, on_mouse: Callable[[Any], None] | None = None, events: Sequence[str] = ()
) -> ui.interactive_image:
    image = ui.interactive_image(on_mouse=on_mouse, events=list(events), sanitize=False)
    return image.classes("pixels").props(f'role=img aria-label="{name}"')


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _histogram(scores: np.ndarray, score: float) -> str:
    """Return a histogram of the anomaly scores of the test images, as SVG text.

    Bars to the left of `score`, the anomaly score of the image on the canvas, are blue.
    """
    largest = np.quantile(scores, 0.995)  # without it, outliers make all other bars narrow
    counts, edges = np.histogram(np.minimum(scores, largest), _NUM_BARS)
    bars = []
    for place, height in enumerate(counts / counts.max()):
        color = _BLUE if edges[place] < score else _GREY
        bars.append(
            f'<rect x="{place}" y="{1 - height}" width=".85" height="{height}" fill="{color}"/>'
        )
    return (
        f'<svg viewBox="0 0 {_NUM_BARS} 1" preserveAspectRatio="none" width="100%" '
        f'height="100%">{"".join(bars)}</svg>'
    )


def _png(images: np.ndarray) -> str:
    """Convert one image `[1, height, width, channels]` to PNG, and return it as a data URL."""
    file = io.BytesIO()
    Image.fromarray(grid(images, 1).squeeze()).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
