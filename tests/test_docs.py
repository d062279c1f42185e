"""README and docs: their scripts run, their commands exist, their links lead somewhere, and the site is built without a warning."""

import contextlib
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import matplotlib
import pytest
from support import serving_models, verified_here

from keras_gen import cli, data, serving

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "savedmodels" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SNIPPETS = {}  # by page; what an earlier page has, too, is run once
for page in PAGES:
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    SNIPPETS[str(page.relative_to(ROOT))] = [
        text for text in snippets if not any(text in earlier for earlier in SNIPPETS.values())
    ]
ONE_SCRIPT = (
    "docs/serving.md",
    "docs/evaluation.md",
    "docs/extending.md",
)  # the snippets of a page go on where the last ended
COMMANDS = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(
            r"(?:^    (?:\$ )?|`)(keras-gen .+?)(?: *#.*|`|$)", page.read_text(), re.M
        )
    }
)
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


def without_code(page):
    return re.sub(r"```.*?```|^    .*?$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def two_batches(tmp_path, monkeypatch):
    """A folder of one's own, and data of two batches."""
    monkeypatch.chdir(tmp_path)
    read, load = data.loading.read_tfds_folder, data.load
    monkeypatch.setattr(
        data.loading, "read_tfds_folder", lambda *args: [split.take(400) for split in read(*args)]
    )
    monkeypatch.setattr(
        data, "load", lambda *args, **kwargs: [split.take(2) for split in load(*args, **kwargs)]
    )


def shortened(script):
    """The same for two epochs, with few draws and one pair of trainings."""
    script = re.sub(r"(epochs|refinement_steps|num_samples|images)=\d+", r"\1=2", script)
    return re.sub(r"seeds=\([\d, ]+\)", "seeds=(0,)", script)


@pytest.mark.usefixtures("unverified", "two_batches")
@pytest.mark.parametrize("page", [page for page, snippets in SNIPPETS.items() if snippets])
def test_snippets_run(page, tmp_path, monkeypatch):
    """Those that ask a server, of one that is made of what the first published."""
    monkeypatch.setattr(serving, "verify", verified_here)
    names = {}
    for snippet in SNIPPETS[page]:
        with (
            serving_models(tmp_path / "savedmodels")
            if "localhost" in snippet
            else contextlib.nullcontext({}) as ports
        ):
            snippet = (
                shortened(snippet)
                .replace("localhost:8501", f"localhost:{ports.get('rest')}")
                .replace("localhost:8500", f"localhost:{ports.get('grpc')}")
            )
            exec(snippet, names if page in ONE_SCRIPT else {})
    assert list((tmp_path / "savedmodels").glob("*/1/saved_model.pb")) or "export" not in "".join(
        SNIPPETS[page]
    )


@pytest.mark.usefixtures("two_batches")
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(tutorial, tmp_path, monkeypatch):
    matplotlib.use("agg")
    pictures = []
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: pictures.append(1))
    (tmp_path / tutorial.name).write_text(shortened(tutorial.read_text()))
    runpy.run_path(str(tmp_path / tutorial.name))
    assert pictures
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command, monkeypatch):
    """Each line that begins with keras-gen, up to where it would begin to work."""
    words = shlex.split(re.sub(r"\b[A-Z]{3,}\b", "path", command))[1:]
    if len(words) == 1 or {"--help", "--tyro-write-completion"} & set(words):
        assert words[0] in cli.EXAMPLES or words[0].startswith("--")
        return
    parsed = cli._parse(words).command
    assert type(parsed).__name__.lower() == words[0]


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "savedmodels" / "README.md"],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page):
    """Of the pages that are not in the site, whose links its builder follows."""
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", without_code(page)):
        path, _, anchor = link.partition("#")
        assert (page.parent / path).exists(), link
        headings = re.findall(r"^#+ (.*)", (page.parent / path).read_text(), re.M) if anchor else []
        assert not anchor or anchor in [
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        ], link


def test_the_site_is_built_without_a_warning(tmp_path):
    """Tutorials aside, which run above: links within the site, quoted code and docstrings are all there."""
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "from-notes-to-code.html").read_text()
    assert "kl_divergence" in page
