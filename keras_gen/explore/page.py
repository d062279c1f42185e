"""The page of `keras-gen explore`: sliders for the latents of a trained model, and a canvas whose drawing it judges."""

import base64
import functools
import io
import random

import numpy as np
from nicegui import app, ui
from PIL import Image

from keras_gen._files import PathLike
from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import grid
from keras_gen.explore.exploration import Canvas, Exploration
from keras_gen.runs.config import as_dict, read
from keras_gen.runs.folder import load_run
from keras_gen.runs.report import describe
from keras_gen.runs.train import load_data

_SLIDERS = 10  # latents that have one
_REACH = 3  # standard deviations, to either side
_EXAMPLES = 1000  # test images at most
_EVERY = 0.05  # seconds between two looks at what has changed
_BLUE = "#2f5d8a"
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
.sliders { display: grid; gap: 0 .8rem; width: 100%; grid-template-columns: auto 1fr 3rem; align-items: center; }
.histogram { width: 100%; height: 6rem; }
"""


def explore(run: PathLike, port: int = 8080, show: bool = False) -> None:
    """Serve a page on which a run's model is explored, to this machine alone, until Ctrl-C.

    Args:
        run: Folder of the run.
        port: Port of 127.0.0.1.
        show: Open the page in the browser.

    Raises:
        ValueError: If the model is not one of images.
    """
    config, model = read(run), load_run(run)
    x, labels = as_arrays(load_data(config)[1])
    exploration = Exploration(model, x[:_EXAMPLES], None if labels is None else labels[:_EXAMPLES])
    app.on_startup(
        lambda: print(f"The page is http://127.0.0.1:{port}. Ctrl-C ends it.", flush=True)
    )
    ui.run(
        lambda: Page(exploration, config.name, describe(as_dict(config))) and None,
        host="127.0.0.1",
        port=port,
        title=config.name,
        favicon="data:,",
        show=show,
        reload=False,
        show_welcome_message=False,
    )


class Page:
    """What one browser shows, and what is done in it.

    Args:
        exploration: The model as an `Exploration`.
        title: The line on top.
        subtitle: The line below it.
    """

    def __init__(self, exploration: Exploration, title: str, subtitle: str) -> None:
        self.exploration, num_classes = exploration, exploration.model.num_classes
        self.encodes, self.draws = (
            "encode" in exploration.signatures,
            "generate" in exploration.signatures,
        )
        self.labels = np.array([0]) if num_classes else None
        self.units = np.zeros((1, exploration.size))
        self.canvas = Canvas(
            exploration.x.shape[1:], binary=bool(np.isin(exploration.x, (0, 1)).all())
        )
        self.last: tuple[float, float] | None = None  # where the pen was, while it is down
        self.changed = {"latents", "canvas"}
        ui.colors(primary=_BLUE)
        ui.add_css(_STYLE)
        ui.label(title).classes("title").props("role=heading aria-level=1")
        ui.label(subtitle).classes("soft")
        if num_classes:
            kind = ui.toggle if num_classes <= _SLIDERS else ui.select
            self.label = kind(list(range(num_classes)), value=0, on_change=self._choose).props(
                "unelevated role=group aria-label=class"
            )
        with _section("Latents"):
            self._make_sliders()
        with _section("Draw"):
            self._make_canvas()
        if self.draws:
            self._draw_latents(seed=0)
        ui.timer(_EVERY, self._update)

    # === What there is ===

    def _make_sliders(self):
        self.sliders, others = {}, self.exploration.size - _SLIDERS
        self.picture = _image("what the latents make")
        with ui.column().classes("rest"):
            with ui.element().classes("sliders"):
                for latent in map(int, self.exploration.order[:_SLIDERS]):
                    ui.label(f"z{latent}")
                    slider = _Slider(
                        min=-_REACH,
                        max=_REACH,
                        step=0.05,
                        value=0,
                        on_change=functools.partial(self._move, latent),
                    )
                    slider.props(f"aria-label=z{latent} selection-color=transparent")
                    ui.label().bind_text_from(
                        slider, "value", lambda value: f"{value:+.2f}".replace("-", "−")
                    )
                    self.sliders[latent] = slider
            with ui.row():
                if self.draws:
                    _button("Random", lambda: self._draw_latents(random.getrandbits(31)))
                _button("Reset to zero", lambda: self._set(np.zeros_like(self.units)))
            rest = f" The other {others} have no slider." if others > 0 else ""
            ui.label(
                f"In standard deviations from the mean; first the latent that changes the image most.{rest}"
            ).classes("soft")

    def _make_canvas(self):
        self.drawing = _image(
            "what you draw", self._draw, ["pointerdown", "pointermove", "pointerleave"]
        ).classes("canvas")
        if self.encodes:
            self.reconstruction = _image("its reconstruction")
        with ui.column().classes("rest"):
            with ui.row():
                _button("Clear", self._clear)
                _button("Test image", self._show_test_image)
                if self.encodes:
                    _button(
                        "To the sliders",
                        lambda: self._set(
                            self.exploration.encode(self.canvas.image[None], self.labels)
                        ),
                    )
            self.words = ui.label().classes("words")
            self.histogram = ui.html(sanitize=False).classes("histogram")
            ui.label(
                f"{len(self.exploration.x):,} test images from usual to strange, blue those that are less strange."
            ).classes("soft")

    # === What is done ===

    def _choose(self, event):
        self.labels = np.array([event.value])
        self.changed |= {"latents", "canvas"}

    def _move(self, latent, event):
        self.units[0, latent] = event.value
        self.changed.add("latents")

    def _set(self, units):
        self.units = np.clip(units, -_REACH, _REACH)
        for latent, slider in self.sliders.items():
            slider.value = round(float(self.units[0, latent]), 2)
        self.changed.add("latents")

    def _draw_latents(self, seed):
        self._set(self.exploration.draw([seed], self.labels))

    def _draw(self, event):
        here = (
            (event.image_x, event.image_y)
            if event.buttons and event.type != "pointerleave"
            else None
        )
        if here:
            self.canvas.line(self.last or here, here)
            self.changed.add("canvas")
        self.last = here

    def _clear(self):
        self.canvas.clear()
        self.changed.add("canvas")

    def _show_test_image(self):
        index = random.randrange(len(self.exploration.x))
        self.canvas.show(self.exploration.x[index])
        if self.exploration.labels is not None:
            self.label.value = int(self.exploration.labels[index])
        self.changed.add("canvas")

    # === What follows from it ===

    def _update(self):
        """Show what has changed since the last time, so that a quick hand does not wait for images that it has passed."""
        changed, self.changed = self.changed, set()
        if "latents" in changed:
            self.picture.set_source(_png(self.exploration.decode(self.units, self.labels)))
        if "canvas" in changed:
            x, blank = self.canvas.image[None], self.canvas.blank
            strangeness = (
                -np.inf if blank else float(self.exploration.strangeness(x, self.labels)[0])
            )
            self.words.text = (
                "Draw, or take a test image." if blank else self.exploration.words(strangeness)
            )
            self.histogram.content = _histogram(self.exploration.of_test, strangeness)
            self.drawing.set_source(_png(x))
            self.drawing.content = _HINT.format("draw here") if blank else ""
            if self.encodes:
                self.reconstruction.set_source(
                    _png(x if blank else self.exploration.reconstruct(x, self.labels))
                )
                self.reconstruction.content = _HINT.format("its reconstruction") if blank else ""


class _Slider(ui.slider):
    LOOPBACK = False  # its values are not sent back to the browser: late, they would take the handle out of the hand


def _section(heading):
    """A card under a heading, whose parts lie beside each other where there is room."""
    with ui.card().props("flat bordered"):
        ui.label(heading).classes("heading").props("role=heading aria-level=2")
        return ui.element().classes("parts")


def _button(text, on_click):
    return ui.button(text, on_click=on_click).props("no-caps unelevated outline")


def _image(name, on_mouse=None, events=()):
    image = ui.interactive_image(on_mouse=on_mouse, events=list(events), sanitize=False)
    return image.classes("pixels").props(f'role=img aria-label="{name}"')


def _histogram(values, below):
    """An SVG of how often which values are, those in blue that are below one of them."""
    high = np.quantile(values, 0.995)  # of the few above, the rest would become too small to see
    counts, edges = np.histogram(np.minimum(values, high), 40)
    bars = [
        f'<rect x="{place}" y="{1 - count}" width=".85" height="{count}" fill="{_BLUE if edge < below else "#d8dbe0"}"/>'
        for place, (count, edge) in enumerate(zip(counts / counts.max(), edges[:-1], strict=True))
    ]
    return f'<svg viewBox="0 0 40 1" preserveAspectRatio="none" width="100%" height="100%">{"".join(bars)}</svg>'


def _png(images):
    """One image `[1, height, width, channels]` as the `src` of an `img`."""
    file = io.BytesIO()
    Image.fromarray(grid(images, 1).squeeze()).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
