"""README and docs: snippets and tutorials run, commands and links exist, the site builds."""

import collections
import importlib
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import matplotlib
import pytest
import tensorflow as tf
from support import serving_models, verified_here

from keras_gen import cli, data, serving

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "savedmodels" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# The snippets of these pages continue each other.
ONE_SCRIPT = (
    "docs/serving.md",
    "docs/evaluation.md",
    "docs/extending.md",
    "docs/tables.md",
    "docs/imputation.md",
    "docs/synthetic-tables.md",
    "docs/anomalies.md",
    "docs/own-images.md",
    "docs/conditional.md",
    "docs/tracking.md",
    "docs/custom-loop.md",
    "docs/hierarchical-vae.md",
)
# The snippets of these pages need more than the examples of `two_batches`.
WITH_ALL_DATA = ("docs/anomalies.md",)
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


def find_snippets():
    """Return the Python code blocks by page, without those that an earlier page contains."""
    snippets = {}
    known = set()
    for page in PAGES:
        texts = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        snippets[str(page.relative_to(ROOT))] = [text for text in texts if text not in known]
        known.update(texts)
    return snippets


def find_commands():
    """Return all command lines that start with `keras-gen`."""
    pattern = re.compile(r"(?:^    (?:\$ )?|`)(keras-gen .+?)(?: *#.*|`|$)", re.MULTILINE)
    return sorted({line for page in PAGES for line in pattern.findall(page.read_text())})


SNIPPETS = find_snippets()


def without_code(page):
    """Return the text of a page without its code blocks."""
    return re.sub(r"```.*?```|^    .*?$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def two_batches(tmp_path, monkeypatch):
    """Let `data.load` return two batches, from 400 examples, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    read = data.loading.read_tfds_folder
    load = data.load

    def read_part(*args):
        return [split.take(400) for split in read(*args)]

    def load_part(*args, **kwargs):
        return [split.take(2) for split in load(*args, **kwargs)]

    monkeypatch.setattr(data.loading, "read_tfds_folder", read_part)
    monkeypatch.setattr(data, "load", load_part)


def shortened(script):
    """Return a script with two epochs, few samples, and one pair of trainings."""
    script = re.sub(r"(epochs|refinement_steps|num_samples|images)=\d+", r"\1=2", script)
    return re.sub(r"seeds=\([\d, ]+\)", "seeds=(0,)", script)


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize("page", [page for page, snippets in SNIPPETS.items() if snippets])
def test_snippets_run(page, tmp_path, monkeypatch, request, two_replicas):
    """Snippets of clients use a server of the models that earlier snippets published."""
    # TensorFlow cannot have two strategies of this class in one process
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two_replicas)
    if page in WITH_ALL_DATA:
        monkeypatch.chdir(tmp_path)
    else:
        request.getfixturevalue("two_batches")
    monkeypatch.setattr(serving, "verify", verified_here)
    published = tmp_path / "savedmodels"
    names = {}
    for snippet in SNIPPETS[page]:
        snippet = shortened(snippet)
        variables = names if page in ONE_SCRIPT else {}
        if "localhost" not in snippet:
            exec(snippet, variables)
            continue
        with serving_models(published) as ports:
            snippet = snippet.replace("localhost:8501", f"localhost:{ports['rest']}")
            snippet = snippet.replace("localhost:8500", f"localhost:{ports['grpc']}")
            exec(snippet, variables)
    if any("export" in snippet for snippet in SNIPPETS[page]):
        assert list(published.glob("*/1/saved_model.pb"))


@pytest.mark.usefixtures("two_batches")
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(tutorial, tmp_path, monkeypatch):
    matplotlib.use("agg")
    figures = []
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: figures.append(1))
    (tmp_path / tutorial.name).write_text(shortened(tutorial.read_text()))
    runpy.run_path(str(tmp_path / tutorial.name))
    assert figures
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("command", find_commands())
def test_commands_are_parsed(command, monkeypatch):
    """All command lines of the pages are parsed, but not run."""
    words = shlex.split(re.sub(r"\b[A-Z]{3,}\b", "path", command))[1:]
    if len(words) == 1 or {"--help", "--tyro-write-completion"} & set(words):
        assert words[0] in cli.examples() or words[0].startswith("--")
        return
    parsed = cli._parse(words).command
    assert type(parsed).__name__.lower() == words[0].replace("-", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_target(page):
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", without_code(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
            assert anchor in [text.replace(" ", "-") for text in anchors], link


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        ("own-images.md", 'data.load("photos"'),
        ("imputation.md", "vae.impute("),
        ("choosing.md", "## Loss of a GAN"),
        ("troubleshooting.md", "## The loss is NaN or infinite"),
        ("serving.md", "docker run"),
        ("devices.md", "MirroredStrategy()"),
        ("glossary.md", "## ELBO"),
        ("citing.md", "@software{"),
    ],
)
def test_the_front_page_links_to_the_answers_of_frequent_questions(page, answer):
    front_page = (ROOT / "docs" / "index.md").read_text()
    assert re.search(rf"^\| .* \|.*\]\({re.escape(page)}[)#]", front_page, re.MULTILINE)
    assert answer in (ROOT / "docs" / page).read_text()


def public_objects(module):
    """Return the names of the classes and functions that a module offers."""
    defined = [name for name, value in vars(module).items() if is_defined_in(module, value)]
    names = getattr(module, "__all__", defined)
    return {name for name in names if callable(getattr(module, name))}


def is_defined_in(module, value):
    name = getattr(value, "__name__", "_")
    return getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")


def test_the_api_lists_every_public_object():
    text = (ROOT / "docs" / "api.md").read_text()
    listed = collections.defaultdict(set)
    for module, names in re.findall(r"currentmodule:: (\S+)\n(.*?)```", text, re.DOTALL):
        listed[module] |= set(re.findall(r"^   (\w+)$", names, re.MULTILINE))
    assert {"keras_gen", "keras_gen.evaluation"} < set(listed)
    for name, names in listed.items():
        assert names == public_objects(importlib.import_module(name)), name


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links within the site, code and docstrings are valid. Another test runs the tutorials."""
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "from-notes-to-code.html").read_text()
    assert "kl_divergence" in page
