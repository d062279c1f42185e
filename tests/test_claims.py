"""README and docs: each number that they quote is that of a committed result."""

import functools
import importlib
import json
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

from keras_gen.evaluation import Interval

ROOT = pathlib.Path(__file__).parents[1]
SINGLE_THREADED = "keras_gen fit, 50 steps, single-threaded operations"
SCRIPTS = ROOT / "scripts" / "reproduce"
SECTION = re.compile(r'write_section\(\s*"(.+?)",\s*(\w+)\(\)\s*\)')


# === Committed results ===


@functools.cache
def benchmark(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


@functools.cache
def committed_files():
    """Return the files of docs/results, without those of a script that is still running."""
    command = ["git", "ls-files", "-z", "docs/results"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0")[:-1]
    return [ROOT / name for name in names] or sorted((ROOT / "docs" / "results").glob("*.json"))


@functools.cache
def trainings(table):
    """Return the results of all trainings of a table of docs/results.md, in the order of seeds."""
    paths = [path for path in committed_files() if path.name.startswith(f"{table}-")]
    return [json.loads(path.read_text()) for path in sorted(paths)]


def select(table, **settings):
    found = [row for row in trainings(table) if settings.items() <= row.items()]
    assert found, (table, settings)
    return found


def mean(table, score, **settings):
    return statistics.mean(row[score] for row in select(table, **settings))


def fids(*names):
    return [mean("gan_losses", "fid", name=name) for name in names]


def best_gan():
    names = {row["name"] for row in trainings("gan_losses")}
    return min(fids(*(name for name in names if not name.startswith(("VAE", "RAE")))))


def sets_on_which_the_forest_is_better():
    return sum(
        statistics.mean(row["isolation_forest"]["auroc"])
        > statistics.mean(row["autoencoder_ensemble"]["auroc"])
        for row in trainings("odds")
    )


def gain_of_full_covariance(latents):
    """Return the gain in log p(x), and the ends of its 95 % interval."""
    rows = {
        family: select("posterior_covariance", latents=latents, family=family)
        for family in ("diagonal", "full")
    }
    pairs = zip(rows["diagonal"], rows["full"], strict=True)
    return [*Interval.of([b["log_likelihood"] - a["log_likelihood"] for a, b in pairs])]


def medians(row):
    return benchmark("speed")["rows"][row]["medians"]


def speed(row, name):
    return medians(row)[name]


def ratio(row, name, other, file="speed"):
    """Return the time of `name` divided by that of `other`, as the median over the rounds."""
    return benchmark(file)["rows"][row]["ratios"][name][other]


def auroc_of_one_digit():
    """Return the mean AUROC of the autoencoder's score over all digits and seeds."""
    return statistics.mean(row["scores"]["autoencoder"]["auroc"] for row in trainings("one_digit"))


# === Sentences ===
# Each entry is a page, a sentence or a part of it with a format per number, and the numbers.


def share_of_patches(model):
    return 100 * mean("planted_patches", "inverted", name=model)


def fid_of_vae(latents):
    found = select("latent_densities", name="VAE")
    return statistics.mean(
        row["fid"] for result in found for row in result["rows"] if row["latents"] == latents
    )


def reading(size, reader="keras_gen"):
    """Return the numbers of a row of the table of image folders in docs/performance.md."""
    rows = benchmark("reading")["images per second"][size]
    ratios = [
        rows[reader][f"{competitor} / ours, {epoch}"]
        for competitor in ("keras, divided by 255", "keras")
        for epoch in ("first_epoch", "later_epochs")
    ]
    return [*ratios, rows[reader]["peak_mib"], rows["keras"]["peak_mib"]]


CLAIMS = [
    *(
        (
            "docs/performance.md",
            f"{files} files, {size} pixels{words} | {{:.2f}} | {{:.2f}} | {{:.2f}} | {{:.2f}} | "
            "{:,} MiB | {:,} MiB",
            functools.partial(reading, size, reader),
        )
        for files, size, words, reader in (
            ("50,000", "32×32", "", "keras_gen"),
            ("50,000", "32×32", ", not kept in memory", "keras_gen, not in memory"),
            ("4,317", "256×256", "", "keras_gen"),
            ("4,317", "256×256", ", kept in memory", "keras_gen, in memory"),
        )
    ),
    (
        "docs/performance.md",
        "for Keras between {:.2f} and {:.2f} s, for `data.load` between {:.2f} and {:.2f} s",
        lambda: [
            choice(
                rounds["images"] / rounds["first_epoch"]
                for rounds in benchmark("reading")["rounds"]["256×256"][reader]
            )
            for reader in ("keras", "keras_gen")
            for choice in (min, max)
        ],
    ),
    (
        "docs/vector-quantized.md",
        "reads {:.0f} % of the samples of this model as digits with a confidence above 0.9, and "
        "{:.0f} % of the samples of a VAE",
        lambda: [100 * mean("vq_vae", "confident", kind=kind) for kind in ("vq_vae", "vae")],
    ),
    (
        "docs/own-images.md",
        "is {:.2f} for {} samples, and {:.2f} for the {} held-out images. The smallest distance of "
        "a sample is {:.2f}",
        lambda: [
            benchmark("nearest_images")["samples"]["mean"],
            benchmark("nearest_images")["images"],
            benchmark("nearest_images")["held_out"]["mean"],
            benchmark("nearest_images")["images"],
            benchmark("nearest_images")["samples"]["smallest"],
        ],
    ),
    (
        "docs/anomalies.md",
        "The denoising autoencoder finds {:.0f} % of the inverted patches in this way, a VAE finds "
        "{:.0f} %, and an autoencoder that was trained on unchanged images finds {:.0f} %",
        lambda: [
            share_of_patches(model) for model in ("denoising autoencoder", "VAE", "autoencoder")
        ],
    ),
    (
        "docs/choosing.md",
        "the FID of a VAE is {:.1f} with its prior, {:.1f} with a mixture and {:.1f} with a flow",
        lambda: [fid_of_vae(latents) for latents in ("prior", "mixture", "flow")],
    ),
    (
        "docs/anomalies.md",
        "the mean over the ten digits is {:.3f}",
        lambda: [auroc_of_one_digit()],
    ),
    (
        "README.md",
        "a one-layer VAE reaches −log p(x) = {:.2f} nats (one seed, {:,} samples per image)",
        lambda: [mean("iwae_table", score, row="vae") for score in ("nll", "draws")],
    ),
    (
        "docs/coming-from.md",
        "on {} data sets of numbers, it needs less time than an ensemble of our autoencoders, and "
        "it has the higher AUROC on {} sets",
        lambda: [len(trainings("odds")), sets_on_which_the_forest_is_better()],
    ),
    (
        "docs/choosing.md",
        "It is {:.1f} for the best GAN, {:.1f} for an autoencoder with a density fitted to its "
        "latents, and {:.1f} for a VAE",
        lambda: [best_gan(), *fids("RAE, mixture of 10 normals", "VAE")],
    ),
    (
        "docs/choosing.md",
        "With 10 latents, it is {:.3f} nats (95 % interval: {:.3f} to {:.3f}). With 50 latents, "
        "it is {:.3f} nats ({:.3f} to {:.3f})",
        lambda: [*gain_of_full_covariance(10), *gain_of_full_covariance(50)],
    ),
    (
        "docs/choosing.md",
        "is −{:.0f} nats with one σ per pixel, −{:.0f} with a shared σ and {:.0f} with a fixed σ",
        lambda: [
            -mean("decoder_variance", "bound", kind="per_pixel"),
            -mean("decoder_variance", "bound", kind="shared"),
            mean("decoder_variance", "bound", kind="fixed"),
        ],
    ),
    (
        "docs/choosing.md",
        "with a shared σ: {:.1f}, against {:.1f} per pixel and {:.1f} fixed",
        lambda: [mean("decoder_variance", "fid", kind=k) for k in ("shared", "per_pixel", "fixed")],
    ),
    (
        "docs/choosing.md",
        "is {:.2f} nats for `IWAE(5)` and {:.2f} nats for `ELBO()`. The IWAE trained for {:,} "
        "epochs and the VAE for {:,}",
        lambda: [
            mean("iwae_table", "nll", row="iwae"),
            mean("iwae_table", "nll", row="vae"),
            mean("iwae_table", "epochs", row="iwae"),
            mean("iwae_table", "epochs", row="vae"),
        ],
    ),
    (
        "docs/choosing.md",
        "the estimate is {:.2f} nats for `IWAE(5)`, and {:.2f} nats with the doubly "
        "reparameterized gradient, after {:,} epochs each",
        lambda: [
            mean("iwae_table", "nll", row="two_layers_iwae5"),
            mean("iwae_table", "nll", row="two_layers_dreg5"),
            mean("iwae_table", "epochs", row="two_layers_dreg5"),
        ],
    ),
    (
        "docs/from-notes-to-code.md",
        "costs {:.3f} nats of log p(x) (95 % interval: {:.3f} to {:.3f}). With 50 latents, it "
        "costs {:.3f} nats ({:.3f} to {:.3f}). log p(x) is estimated from {} samples per image",
        lambda: [
            *gain_of_full_covariance(10),
            *gain_of_full_covariance(50),
            trainings("posterior_covariance")[0]["num_samples"],
        ],
    ),
    (
        "docs/gan.md",
        "its accuracy on the real test images is {:.2%}. It assigns {:.2%} of the samples to the "
        "label with which they were generated. For the worst digit, the {}, it is {:.1%}",
        lambda: [
            benchmark("conditional_gan")["classifier_test_accuracy"],
            benchmark("conditional_gan")["read_as_asked"],
            *min(benchmark("conditional_gan")["by_digit"].items(), key=lambda item: item[1]),
        ],
    ),
    (
        "docs/evaluation.md",
        "With {:,} samples per image and a decoder with layers of 50, 200, 200 and 784 units, "
        "{:,} images take {:.0f} s of wall-clock time on two cores. The matrix multiplications of "
        "the decoder alone take {:.0f} s",
        lambda: [
            benchmark("likelihood")[name]
            for name in ("num_samples", "images", "likelihood_seconds", "products_seconds")
        ],
    ),
    (
        "docs/performance.md",
        "takes {:.1f} ms per image. That is {:.2f} times the time of the decoder's matrix",
        lambda: [
            speed("likelihood", "keras_gen log_likelihood"),
            ratio("likelihood", "keras_gen log_likelihood", "its decoder's matrix multiplications"),
        ],
    ),
    (
        "docs/performance.md",
        "takes {:.0f} s, and `keras-gen evaluate runs/vae` {:.0f} s",
        lambda: [
            speed("default_run", f"keras-gen {command}") / 1000
            for command in ("train vae", "evaluate runs/vae")
        ],
    ),
    (
        "docs/performance.md",
        "VAE takes {:.1f} times as long as its matrix multiplications",
        lambda: [ratio("mlp_vae", "keras_gen fit", "its matrix multiplications alone")],
    ),
    (
        "docs/performance.md",
        "dense VAE takes {:.2f} of the time of PyTorch, and {:.2f} of the time of PyTorch with",
        lambda: [
            ratio("mlp_vae", SINGLE_THREADED, name, "speed_avx2")
            for name in ("PyTorch", "PyTorch, torch.compile")
        ],
    ),
    (
        "docs/performance.md",
        "`fit` takes {:.1f} s, the hand-written loop {:.1f} s, and PyTorch {:.1f} s. `import "
        "tensorflow` alone takes {:.1f} s. Most",
        lambda: [
            speed("start_up", "keras_gen fit") / 1000,
            speed("start_up", "hand-written loop") / 1000,
            speed("start_up", "PyTorch") / 1000,
            speed("import", "tensorflow itself") / 1000,
        ],
    ),
    (
        "docs/performance.md",
        "keras_gen also imports TensorFlow, and `fit` takes {:.1f} s",
        lambda: [speed("start_up", "keras_gen fit, imported before Keras") / 1000],
    ),
    (
        "docs/performance.md",
        "`keras-gen train` shows its first progress after {:.1f} s",
        lambda: [speed("first_progress", "keras-gen train") / 1000],
    ),
    (
        "docs/performance.md",
        "adds {:.2f} s to `import tensorflow`. `keras-gen --help` takes {:.2f} s",
        lambda: [
            speed("import", "keras_gen after tensorflow") / 1000,
            speed("help", "keras-gen --help") / 1000,
        ],
    ),
    (
        "docs/performance.md",
        "takes {:.2f} of the time of a `tf.data` pipeline over an array",
        lambda: [ratio("pipeline", "keras_gen data.load", "tf.data from an array")],
    ),
]


def words(text):
    """Return a text with one space between its words."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("page", "sentence", "numbers"), CLAIMS, ids=[f"{page}: {text}" for page, text, _ in CLAIMS]
)
def test_a_sentence_has_the_numbers_of_the_results(page, sentence, numbers):
    expected = sentence.format(*numbers()).replace("%", " %").replace("  %", " %")
    assert expected in words((ROOT / page).read_text())


def test_the_spanish_page_has_the_numbers_of_the_english_page():
    expected = (
        "cuesta {:.3f} nats de log p(x) (intervalo del 95 %: de {:.3f} a {:.3f}). Con 50 variables "
        "latentes, cuesta {:.3f} nats (de {:.3f} a {:.3f})"
    ).format(*gain_of_full_covariance(10), *gain_of_full_covariance(50))
    decimal_comma = re.sub(r"(\d)\.(\d)", r"\1,\2", expected)
    page = words((ROOT / "docs" / "de-los-apuntes-al-codigo.md").read_text())
    assert decimal_comma in page


# === Tables ===


def tables(page):
    """Return the tables of a page: lists of rows, which are lists of cells without bold type."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    found = []
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("|"):
            continue
        if not before.startswith("|"):
            found.append([])
        found[-1].append([cell.strip().strip("*") for cell in line.strip("|").split("|")])
    return found


def table_of(page, first_cell):
    """Return the rows below the head of the table whose head starts with `first_cell`."""
    [table] = [table for table in tables(page) if table[0][0] == first_cell]
    return table[2:]


@pytest.mark.parametrize(("data", "first_cell"), [("ring", "ring of 8"), ("grid", "grid of 25")])
def test_the_comparison_of_gan_losses(data, first_cell):
    runs = {
        (run["data"], run["loss"], run["penalty"]): run
        for run in benchmark("gaussian_modes")["rows"]
    }
    penalties = ("none", "WGAN-GP", "DRAGAN", "R1", "R2")
    rows = table_of("gan.md", first_cell)
    assert len(rows) == 6
    for loss, *cells in rows:
        for penalty, cell in zip(penalties, cells, strict=True):
            run = runs[data, loss, penalty]
            quality = statistics.mean(run["high_quality"])
            assert cell == f"{min(run['modes'])}, {quality:.0%}".replace("%", " %"), (loss, penalty)


def test_the_recommended_gan_loss_covers_all_modes():
    for data, modes in (("ring", 8), ("grid", 25)):
        for run in benchmark("gaussian_modes")["rows"]:
            if (run["data"], run["loss"], run["penalty"]) == (data, "non-saturating", "R1"):
                assert min(run["modes"]) == modes


def test_the_comparison_of_anomaly_detectors():
    names = ("autoencoder", "PCA", "isolation forest")
    results = benchmark("anomalies")
    expected = [
        [str(row["digit"]), *(f"{row['auc'][name]:.3f}" for name in names)]
        for row in results["rows"]
    ]
    expected.append(["mean", *(f"{results['mean'][name]:.3f}" for name in names)])
    assert table_of("autoencoder.md", "excluded digit") == expected


COMPETITORS = {
    "`fit`": "keras_gen fit",
    "`fit`, `steps_per_execution=50`": "keras_gen fit, 50 steps per execution",
    "`fit`, `steps_per_execution=50`, single-threaded operations": SINGLE_THREADED,
    "Python loop over a `tf.function`": "hand-written loop",
    "loop inside a `tf.function`": "hand-written loop in the graph",
    "PyTorch, eager": "PyTorch",
    "PyTorch, `torch.compile`": "PyTorch, torch.compile",
    "pythae": "pythae",
    "matrix multiplications or convolutions alone": "its matrix multiplications alone",
}
FIRST_MODELS = {"mlp_vae": 2, "conv_vae": 1, "dcgan": 1}  # digits after the decimal point
FURTHER_MODELS = {"residual_vae": 1, "hierarchical_vae": 2, "vq_vae": 1, "table_vae": 2}


@pytest.mark.parametrize(("number", "models"), [(0, FIRST_MODELS), (1, FURTHER_MODELS)])
def test_the_tables_of_training_steps(number, models):
    rows = tables("performance.md")[number][2:]
    assert [row[0] for row in rows] == [
        name for name in COMPETITORS if number == 0 or name != "pythae"
    ]
    for name, *cells in rows:
        for (model, digits), cell in zip(models.items(), cells, strict=True):
            milliseconds = medians(model).get(COMPETITORS[name])
            assert cell == ("" if milliseconds is None else f"{milliseconds:.{digits}f}"), name


@pytest.mark.parametrize(
    ("number", "models", "file"),
    [(2, FIRST_MODELS, "speed"), (3, FURTHER_MODELS, "speed"), (4, FIRST_MODELS, "speed_avx2")],
)
def test_the_tables_of_ratios(number, models, file):
    ours = ("keras_gen fit", *["keras_gen fit, 50 steps per execution"] * 4)
    theirs = (
        *["hand-written loop"] * 2,
        "hand-written loop in the graph",
        "PyTorch",
        "PyTorch, torch.compile",
    )
    rows = tables("performance.md")[number][2:]
    for (name, *cells), our, their in zip(rows, ours, theirs, strict=True):
        for model, cell in zip(models, cells, strict=True):
            assert cell == f"{ratio(model, our, their, file):.2f}", name


def test_the_table_of_other_operations():
    names = ("Keras", "SavedModel in Python", "SavedModel in C++")
    rows = [f"{name}_{number}" for name in ("generate", "encode", "latents") for number in (1, 100)]
    rows += ["decode_1", "reconstruct_1", "score_1"]
    for row, (title, *cells) in zip(rows, tables("performance.md")[5][2:], strict=True):
        expected = [f"{speed(row, name):.3f}" for name in names]
        assert cells == [*expected, f"{ratio(row, *names[:2]):.2f}"], title


@pytest.fixture
def reproduce(monkeypatch):
    """Import a script of scripts/reproduce by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (SCRIPTS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_section_of_the_results_is_what_its_script_writes(
    script, reproduce, tmp_path, monkeypatch
):
    if script.stem == "results":  # the module that defines `write_section`
        return
    written = SECTION.search(script.read_text())
    assert written, "expected write_section(TITLE, FUNCTION())"
    title, function = written.groups()
    results = reproduce("results")
    names = {path.stem for path in committed_files()}
    load = results.load

    def load_committed(table):
        return {case: row for case, row in load(table).items() if f"{table}-{case}" in names}

    monkeypatch.setattr(results, "load", load_committed)
    module = reproduce(script.stem)
    text = (ROOT / "docs" / "results.md").read_text()
    if not results.load(module.TABLE):
        assert f"\n## {title}\n" not in text
        return
    section = getattr(module, function)()
    (tmp_path / "results.md").write_text(text)
    monkeypatch.setattr(results, "DOCS", tmp_path)
    results.write_section(title, section)
    assert (tmp_path / "results.md").read_text() == text
