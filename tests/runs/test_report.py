"""The report of a run, as text and in a real browser."""

import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from keras_gen.evaluation import Evaluation, Score
from keras_gen.evaluation.figures import save_grid, save_matrix, save_scatter
from keras_gen.runs import RunFolder, report
from keras_gen.runs.report import write_report

CHROMIUM = shutil.which("chromium")
LONG = "a_name_that_cannot_be_broken_into_lines_" * 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with every file that a report shows, and names that are difficult to show."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    folder.mkdir()
    config = {
        "model": "vae",
        "name": "<b>digits</b>",
        "data": LONG,
        "epochs": 3,
        "savedmodels": "savedmodels",
        "conditional": True,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(
        "epoch,elbo,val_elbo,zero\n0,-3,-4,0\n1,-2,-3,0\n2,-1,-2,0\n"
    )
    start = {
        "started": "now",
        "versions": {"keras": "3"},
        "python": "3.11",
        "platform": "Linux",
        "devices": ["CPU:x"],
    }
    (folder / "environment.yaml").write_text(yaml.safe_dump([start]))
    score = Score("log p(x)", -86.7612, "nats", 0.5, "10,000 test examples & more")
    Evaluation([score, Score("FID", 7.125)], ["All is <well>.\nTruly."]).save(
        folder / "evaluation.json"
    )
    (folder / "audit.json").write_text(
        json.dumps({"words": ["Independent latents were adequate."]})
    )
    random = np.random.default_rng(0)
    for name in (
        "samples-002",
        "samples-003",
        "reconstructions-003",
        "traversals",
        "interpolations",
    ):
        save_grid(folder / f"{name}.png", random.random((50, 8, 8, 1)))
    save_scatter(folder / "codes.png", random.normal(size=(50, 2)), np.arange(50) % 10)
    save_matrix(folder / "correlations.png", np.eye(4))
    return folder


class Page(html.parser.HTMLParser):
    """The text of a page, and the sources of its images and links."""

    def __init__(self, path):
        super().__init__()
        self.text, self.sources = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert tag not in ("script", "iframe")

    def handle_data(self, data):
        self.text.append(data)


def test_the_last_of_numbered_images_is_shown(tmp_path):
    for name in ("samples-990", "samples-1000"):
        save_grid(tmp_path / f"{name}.png", np.full((4, 8, 8, 1), int(name[8:]) / 1000))
    (figure,) = report._figures(RunFolder(tmp_path))
    assert figure["source"] == report._image_source(tmp_path / "samples-1000.png")


def test_the_page_contains_everything_and_loads_nothing(run):
    page = Page(write_report(run))
    text = " ".join(" ".join(page.text).split())
    for words in (
        "<b>digits</b>",
        "log p(x) -86.76 ± 0.5 nats 10,000 test examples & more",
        "FID 7.125",
        "All is <well>.",
        "keras 3",
    ):
        assert words in text
    for words in ("Independent latents were adequate.", '"condition": [0, 0, 0]', "epochs: 3"):
        assert words in text
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"url\(|@import", run.joinpath("report.html").read_text(encoding="utf-8"))
    images = [source for source in page.sources if source.startswith("data:image/png")]
    assert len(images) == 6  # of the two files of samples, only the later one
    charts = [source for source in page.sources if source.startswith("data:image/svg")]
    assert len(charts) == 1  # the metric `zero` is constant


def test_a_run_that_was_only_started_has_a_report(tmp_path):
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(
            {"model": "gan", "name": "gan", "data": "x", "epochs": 1, "savedmodels": "s"}
        )
    )
    text = " ".join(Page(write_report(tmp_path)).text)
    assert f"keras-gen evaluate {tmp_path}" in text
    assert "condition" not in text


def test_the_first_ten_generated_rows_and_the_curves_of_two_epochs_are_shown(tmp_path):
    config = {"model": "vae", "name": "v", "data": "x.csv", "epochs": 2, "savedmodels": "s"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    rows = "".join(f"row{number}\n" for number in range(30))
    (tmp_path / "samples.csv").write_text(f"species\n{rows}")
    (tmp_path / "metrics.csv").write_text("epoch,loss\n0,3\n")
    assert not any("svg" in source for source in Page(write_report(tmp_path)).sources)
    (tmp_path / "metrics.csv").write_text("epoch,loss\n0,3\n1,2\n")
    page = Page(write_report(tmp_path))
    assert [text for text in page.text if text.startswith("row")] == [f"row{n}" for n in range(10)]
    assert "species" in page.text
    assert sum("svg" in source for source in page.sources) == 1


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser_it_fits_a_phone_and_paper(run, tmp_path):
    from playwright.sync_api import sync_playwright

    path = write_report(run)
    requests = []
    messages = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        for width in (360, 1200):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: messages.append(message.text))
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(
                "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
            )
            left = page.evaluate(
                "[...document.images].map(image => image.getBoundingClientRect().left)"
            )
            assert (len(set(left)) == 1) == (width == 360)  # one column, or several
            page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
        pages = page.pdf(format="A4").count(b"/Type /Page\n")
        browser.close()
    assert messages == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert 1 <= pages <= 4
    screenshot = np.asarray(Image.open(tmp_path / "360.png").convert("L"))
    assert screenshot.shape[0] > 2 * screenshot.shape[1]
    dark_rows = (screenshot < 128).any(axis=1)  # rows with text or an image
    assert dark_rows.mean() > 0.5
