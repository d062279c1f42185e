"""The words of the documentation, the docstrings, the comments, the help and the messages.

Some words of everyday language have a precise counterpart in the field. A reader who knows the
field searches for the latter, and misunderstands the former. `WORDS` lists both.
"""

import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "tutorials" / "README.rst",
    ROOT / "keras_gen" / "runs" / "report.html.jinja",
]
MODULES = [
    path
    for folder in ("keras_gen", "scripts", "benchmarks", "tools", "docs/tutorials")
    for path in sorted((ROOT / folder).rglob("*.py"))
]

WORDS = {
    r"strang(e|er|ers|eness)": "anomaly, anomalous, anomaly score, out-of-distribution",
    r"codes": "latents, latent representation",
    r"draws|drawn anew": "samples, resampled",
    r"players?|games?": "generator and discriminator, training",
    r"slopes?": "gradient norm",
    r"twins?": "near-duplicate",
    r"to the last bit": "bit-for-bit identical",
    r"family|families": "distribution",
    r"is no (count|share|truth value)": "must be a positive integer, must be between 0 and 1",
    r"faults?|befell": "failures, failure scenarios",
    r"averaged generator": "EMA generator",
    r"floor of|FID floor": "FID between two halves of the real data",
    r"map of codes": "t-SNE plot of the latents",
    r"pictures?": "images (data), figures (plots)",
    r"(matrix|its) products": "matrix multiplications",
    r"beg[ai]n alike": "start from the same initial weights",
    r"normal (data|examples?|rows?|images?)": "in-distribution data",
    r"left out": "excluded, omitted",
    r"(is|are|was|were|be) had": "obtained, computed",
    r"(numbers|what) that cannot be|what cannot be": "invalid values",
}
"""Regular expressions of words, and what to write instead."""

ALLOWED = (
    r"(exit|zip) codes",  # of processes, of post offices
    r"categories are codes|codes of categories|numbers (and|or|or as) codes",  # as in pandas
    r"font-family",  # CSS
    r"draws with a \w+ \w+ pen",
)
"""Uses in which one of the words has another meaning, as regular expressions."""

CODES = (
    "_column_values.py",
    "_columns.py",
    "data/_csv.py",
    "data/_kinds.py",
    "evaluation/tables.py",
    "serving/client.py",
    # the codes of a VQ-VAE: integers, each the index of a vector in a codebook
    "distributions/transformer.py",
    "models/base.py",
    "models/vector_quantized.py",
    "networks/quantizer.py",
    "runs/recipes/vq_vae.py",
    "scripts/reproduce/vq_vae.py",
    "serving/warm_up.py",
    "vector-quantized.md",
)
"""Pages and modules in which "codes" are those of a VQ-VAE, of categories, as in pandas, of gRPC,
or of characters."""


def violations(text: str) -> list[str]:
    """Return the uses of `WORDS` in a text, without code in backticks and without link targets."""
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(rf"\b({'|'.join(ALLOWED)})", " ", text, flags=re.IGNORECASE)
    found = []
    for pattern, instead in WORDS.items():
        for match in re.finditer(rf"\b({pattern})\b", text, re.IGNORECASE):
            context = text[max(match.start() - 30, 0) : match.end() + 30]
            found.append(f"…{context}…: write {instead}")
    return found


def prose_of_module(source: str) -> str:
    """Return the strings and the comments of a Python module. Strings in code are names."""
    parts = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            parts.append(token.string.lstrip("# "))
        elif token.type == tokenize.STRING and " " in token.string:
            parts.append(token.string)
    return "\n".join(parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_words_of_the_field(page):
    text = page.read_text()
    if page.name in CODES:
        text = re.sub(r"\bcodes\b", " ", text, flags=re.IGNORECASE)
    assert violations(text) == []


@pytest.mark.parametrize("folder", ["keras_gen", "scripts", "benchmarks", "tools", "docs"])
def test_modules_use_the_words_of_the_field(folder):
    found = {}
    for path in MODULES:
        name = str(path.relative_to(ROOT))
        if name.startswith(f"{folder}/"):
            text = prose_of_module(path.read_text())
            if name.removeprefix("keras_gen/") in CODES:
                text = re.sub(r"\bcodes\b", " ", text, flags=re.IGNORECASE)
            if lines := violations(text):
                found[name] = lines
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "A stranger is scored.",
        "The codes of the\nencoder",
        "500 draws",
        "both players",
        "its slope",
        "a twin",
        "equal to the last\nbit",
        "a family of distributions",
        "3.5 is no count",
        "54 faults",
        "the averaged generator",
        "the floor of the FID",
        "a map of codes",
        "The picture shows",
        "matrix products",
        "both began alike",
        "normal data",
        "what is left out",
        "it is had from",
        "numbers that cannot be",
    ],
)
def test_each_word_is_found(text):
    assert len(violations(text)) >= 1
    assert violations(f"`{text}`".replace("\n", " ")) == []


def test_other_meanings_are_allowed():
    assert violations("The exit codes are listed. A normal distribution is chosen.") == []


def test_the_prose_of_a_module_is_its_strings_and_comments():
    prose = prose_of_module('draws = "a name"  # a comment\nmove("draws")\n')
    assert prose == '"a name"\na comment'
