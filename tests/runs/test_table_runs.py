"""Runs on tables: `train`, `sample`, `impute`, `score` and `evaluate`, from file to file."""

import csv
import dataclasses
import importlib.util
import json
import re
import types

import keras
import numpy as np
import pandas as pd
import pytest
import support
import tensorflow as tf
import yaml
from keras.utils import load_img, save_img

from keras_gen import VAE, cli, data, evaluation
from keras_gen.data import PENGUINS, Column
from keras_gen.explore import exploration
from keras_gen.runs import RunFolder, for_table, tables
from keras_gen.runs import evaluate as finished
from keras_gen.runs import train as run
from keras_gen.runs.recipes import AutoencoderConfig, GANConfig, VAEConfig, build, build_for_table

TINY = ["--epochs", "2", "--hidden", "8", "--latent-size", "2", "--prior-components", "3"]


def ended(arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2


def write_table(path, count=120, **options):
    """Write a table of all kinds of columns, with decimal commas, identifiers and a constant."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"P{n:03}" for n in range(count)],
            "mass_kg": np.round(random.gamma(9, 0.5, count) + 0.1, 2),
            "visits": random.poisson(2, count),
            "size": random.choice(["small", "large"], count),
            "diet": random.choice(["fish", "krill", "squid, mixed"], count),
            "site": "north",
        }
    )
    frame.loc[3:6, "mass_kg"] = np.nan
    frame.loc[8, "diet"] = None
    frame.to_csv(path, index=False, **options)
    return frame


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the VAE of `table.csv` was trained by the command, and its table."""
    folder = tmp_path_factory.mktemp("tables")
    frame = write_table(folder / "table.csv", sep=";", decimal=",")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(run, "_publish", lambda config, folder: None)
        cli.main(
            [
                "train",
                "vae",
                "--data",
                "table.csv",
                "--label",
                "diet",
                "--kinds",
                "visits=count",
                *TINY,
            ]
        )
    return folder, frame


@pytest.fixture
def in_folder(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    return trained[0]


def test_a_run_on_a_table_has_its_defaults_and_files(in_folder):
    config = yaml.safe_load((in_folder / "runs/vae/config.yaml").read_text("utf-8"))
    expected = {"network": "mlp", "likelihood": "columns", "prior": "mixture", "hidden": [8]}
    assert expected.items() <= config.items()
    assert RunFolder("runs/vae").read_config().label == "diet"
    model = RunFolder("runs/vae").load_model()
    test = data.read_table("table.csv").test
    assert model.threshold == pytest.approx(np.quantile(model.score(test), 0.99), rel=1e-4)
    assert not [*(in_folder / "runs/vae").glob("samples-*.png")]


def check_rows(frame):
    assert list(frame) == ["mass_kg", "visits", "size", "diet", "site"]
    assert (frame["mass_kg"] >= 0).all()
    np.testing.assert_allclose(frame["mass_kg"], frame["mass_kg"].round(2), atol=1e-9)
    assert frame["visits"].dtype == "int64"
    assert (frame["visits"] >= 0).all()
    assert set(frame["size"]) <= {"small", "large"}
    assert set(frame["diet"]) <= {"fish", "krill", "squid, mixed"}
    assert set(frame["site"]) == {"north"}


def test_generated_rows_have_the_names_categories_and_decimals_of_the_table(in_folder):
    frame = pd.read_csv("runs/vae/samples.csv")
    check_rows(frame)
    assert len(frame) == 1000
    path = finished.sample("runs/vae", 7, output="s.tsv")
    check_rows(pd.read_csv(path, sep="\t"))
    given = ["--given", "size=large", "mass_kg=4.25", "diet=squid, mixed"]
    cli.main(["sample", "runs/vae", "--num-samples", "9", "--output", "given.csv", *given])
    frame = pd.read_csv("given.csv")
    check_rows(frame)
    assert len(frame) == 9
    assert set(frame["size"]) == {"large"}
    assert set(frame["mass_kg"]) == {4.25}
    assert set(frame["diet"]) == {"squid, mixed"}
    assert len(set(frame["visits"])) > 1


def test_generated_rows_can_be_an_array(in_folder):
    model = RunFolder("runs/vae").load_model()
    for seed in (3, 4):  # the second call replaces the file of the first one
        path = finished.sample("runs/vae", 5, seed, output="new/arrays/rows.NPY")
        np.testing.assert_array_equal(np.load(path), model.generate(5, seed=seed))


def test_an_unsupported_suffix_is_refused_before_rows_are_generated(in_folder, monkeypatch):
    monkeypatch.setattr(VAE, "generate", lambda *args, **kwargs: pytest.fail("rows were generated"))
    with pytest.raises(ValueError, match=r"must end in \.csv"):
        finished.sample("runs/vae", output="rows.png")


def test_imputing_fills_only_missing_entries(in_folder, capsys):
    """Identifiers, quotes, the separator, the decimal sign and other columns stay as they are."""
    with (in_folder / "table.csv").open(newline="") as file:
        before = [[*row, f'note "{n}"; x'] for n, row in enumerate(csv.reader(file, delimiter=";"))]
    before[0][-1] = "note"
    before[1][3] = "NA"
    with (in_folder / "holes.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(before)
    cli.main(["impute", "runs/vae", "--data", "holes.csv", "--output", "full.csv"])
    said = capsys.readouterr().out
    assert re.search(r"mass_kg +4\n", said)
    assert re.search(r"visits +0\n", said)
    content = (in_folder / "full.csv").read_bytes()
    assert content.count(b"\r\n") == len(before)
    with (in_folder / "full.csv").open(newline="") as file:
        after = [*csv.reader(file, delimiter=";")]
    filled = 0
    for old, new in zip(before, after, strict=True):
        for index, (entry, complete) in enumerate(zip(old, new, strict=True)):
            if entry in ("", "NA"):
                filled += 1
                valid = {1: r"\d+,\d\d", 3: "small|large", 4: "fish|krill|squid, mixed"}[index]
                assert re.fullmatch(valid, complete)
            else:
                assert entry == complete
    assert filled == 6
    model = RunFolder("runs/vae").load_model()
    imputed = model.impute(data.read_rows("holes.csv", model.columns), seed=0)
    masses = [float(row[1].replace(",", ".")) for row in after[1:]]
    np.testing.assert_allclose(masses, imputed[:, 0], atol=0.0051)


def test_multiple_imputations_differ_only_where_entries_were_missing(in_folder):
    found = finished.impute("runs/vae", "table.csv", "many.csv", num_imputations=3, num_samples=20)
    assert [path.name for path in found.files] == ["many-1.csv", "many-2.csv", "many-3.csv"]
    frames = [pd.read_csv(path, sep=";", decimal=",") for path in found.files]
    original = pd.read_csv("table.csv", sep=";", decimal=",")
    for frame in frames:
        assert not frame.isna().any(axis=None)
        pd.testing.assert_frame_equal(frame.where(original.notna()), original)
    assert not frames[0].equals(frames[1])


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx", ".csv.gz"])
def test_other_formats_are_imputed(suffix, in_folder, trained):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        trained[1].to_parquet("t.parquet")
    elif suffix == ".xlsx":
        pytest.importorskip("openpyxl")
        trained[1].to_excel("t.xlsx", index=False)
    else:
        trained[1].to_csv("t.csv.gz", index=False)
    finished.impute("runs/vae", f"t{suffix}", f"full{suffix}", num_samples=10)
    read = {".parquet": pd.read_parquet, ".xlsx": pd.read_excel}.get(suffix, pd.read_csv)
    frame = read(f"full{suffix}")
    assert not frame.isna().any(axis=None)
    observed = trained[1].notna()
    pd.testing.assert_frame_equal(frame.where(observed), trained[1], check_dtype=False, rtol=1e-6)


def test_scores_are_those_of_the_model(in_folder):
    cli.main(["score", "runs/vae", "--data", "table.csv", "--output", "scores.csv"])
    frame = pd.read_csv("scores.csv")
    model = RunFolder("runs/vae").load_model()
    rows = data.read_rows("table.csv", model.columns)
    np.testing.assert_allclose(frame["score"], model.score(rows), rtol=1e-5)
    assert frame["anomaly"].tolist() == model.is_anomaly(rows).numpy().tolist()
    names = [f"score_{name}" for name in ("mass_kg", "visits", "size", "diet")]
    assert list(frame) == ["row", "score", "anomaly", *names]
    np.testing.assert_allclose(frame[names], model.score_per_feature(rows), rtol=1e-5, atol=1e-5)


def test_an_evaluation_has_scores_and_figures_in_its_report(in_folder, capsys):
    cli.main(["evaluate", "runs/vae", "--num-samples", "5"])
    assert "near copies of training rows" in capsys.readouterr().out
    found = json.loads((in_folder / "runs/vae/evaluation.json").read_text("utf-8"))
    names = [score["name"] for score in found["scores"]]
    for name in (
        "log p(x)",
        "difference of associations",
        "rows equal to a training row",
        "classifier trained on generated rows",
        "imputed numbers, error",
        "imputed categories, wrong (mean or mode)",
    ):
        assert names.count(name) == 1
    page = (in_folder / "runs/vae/report.html").read_text("utf-8")
    assert page.count("data:image/png") >= 4
    assert "<th>mass_kg</th>" in page
    assert "Cramér" in page
    assert "Test rows with the largest anomaly scores" in page
    figures = {"codes", "anomalous-rows", "columns", "associations"}
    assert figures <= {path.stem for path in (in_folder / "runs/vae").glob("*.png")}


@pytest.mark.parametrize(
    ("train", "test", "generated"), [(50_001, 2001, 50_000), (90, 10, 1000), (81, 9, None)]
)
def test_the_numbers_of_rows_of_an_evaluation(train, test, generated, in_folder, monkeypatch):
    """At least 10 test rows are needed; at most 2000 of them and 50,000 training rows are used."""
    rows = np.ones((train + test, 4), np.float32)
    rows[::2, 3] = np.nan  # the column of labels
    splits = [tf.data.Dataset.from_tensors(part) for part in (rows[:train], rows[train:])]
    monkeypatch.setattr(finished, "load_data", lambda config: splits)
    model = types.SimpleNamespace(
        columns=data.read_table("table.csv").columns,
        generate=lambda number, seed: np.zeros((number, 4)),
        impute=None,
    )
    monkeypatch.setattr(RunFolder, "load_model", lambda folder: model)
    seen = {}

    def summarize(model, x, **arguments):
        return seen.update(arguments, test=x) or evaluation.Evaluation([], [])

    def table_scores(columns, generated, train, test, label, seed):
        seen.update(generated=generated, train=train, label=label)
        return [], []

    def save_latent_figures(model, folder, test, labels, seed):
        seen.update(labels=labels)

    monkeypatch.setattr(evaluation, "summarize", summarize)
    monkeypatch.setattr(evaluation, "save_latent_figures", save_latent_figures)
    monkeypatch.setattr(finished.table_evaluation, "table_scores", table_scores)
    for name in ("imputation_scores", "save_columns", "save_associations"):
        monkeypatch.setattr(finished.table_evaluation, name, lambda *args: ([], []))
    if generated is None:
        expected = r"at least 10 held-out rows\..* Received: 9 held-out rows\..* least 100 rows"
        with pytest.raises(ValueError, match=expected):
            finished.evaluate("runs/vae", 5, seed=3)
        return
    finished.evaluate("runs/vae", 5, seed=3)
    with pytest.raises(ValueError, match=r"`extractor` is only for images.*'x\.keras'"):
        finished.evaluate("runs/vae", extractor="x.keras")
    assert (seen["num_samples"], seen["seed"], seen["label"]) == (5, 3, 3)
    assert len(seen["test"]) == min(test, 2000)
    assert len(seen["train"]) == min(train, 50_000)
    assert len(seen["generated"]) == generated
    first = int(np.isnan(rows[train, 3]))  # an unknown label is shown as -1
    np.testing.assert_array_equal(seen["labels"][:2], [-1, 1] if first else [1, -1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"visits": None}, r"new\.csv.*Missing: visits"),
        ({"size": "huge"}, r"'size' of new\.csv\. Received: 'huge' in line 2"),
        ({"visits": "many"}, r"visits.*'many'"),
        ({"mass_kg": "-3"}, r"mass_kg.*-3"),
    ],
)
@pytest.mark.parametrize("command", ["impute", "score"])
def test_an_invalid_row_is_named(command, change, said, in_folder, capsys):
    row = {"id": "X", "mass_kg": "3.5", "visits": "1", "size": "large", "diet": "fish"} | change
    row = {name: value for name, value in row.items() if value is not None}
    pd.DataFrame([row, row]).to_csv("new.csv", index=False)
    ended([command, "runs/vae", "--data", "new.csv", "--output", "out.csv"])
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (in_folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "gan", "--data", "penguins"], "keras-gen train vae --data penguins"),
        (["train", "vae", "--data", "penguins", "--network", "conv"], "must be 'mlp' for a table"),
        (["train", "vae", "--data", "penguins", "--binarize"], "must be False for a table"),
        (["train", "vae", "--data", "penguins", "--conditional"], "must be False for a table"),
        (["train", "vae", "--data", "penguins", "--prior", "conditional"], "--given NAME=VALUE"),
        (["train", "vae", "--data", "penguins", "--label", "body_mass_g"], "species, island, sex"),
        (["train", "vae", "--data", "penguins", "--kinds", "year"], "NAME=KIND"),
        (["train", "vae", "--data", "penguins", "--kinds", "yaer=count"], "Did you mean 'year'"),
        (["train", "vae", "--kinds", "a=count"], "only for tables"),
        (["train", "vae", "--likelihood", "columns"], "data that are not a table"),
        (["train", "autoencoder", "--loss", "columns"], "data that are not a table"),
        (["train", "vae", "--data", "no.csv"], "does not exist"),
        (["sample", "runs/vae", "--given", "colour=red"], "one of the columns mass_kg"),
        (["sample", "runs/vae", "--given", "size=huge"], "small"),
        (["sample", "runs/vae", "--given", "visits=x"], "must contain a number"),
        (["sample", "runs/vae", "--given", "size=small", "size=large"], "more than once"),
        (["sample", "runs/vae", "--output", "rows.png"], "must end in .csv"),
        (["score", "runs/vae", "--data", "table.csv", "--output", "x.txt"], "must end in .csv"),
        (["impute", "runs/vae", "--data", "x.npz", "--output", "x.csv"], "must be a table"),
    ],
)
def test_what_a_table_cannot_have_is_refused_with_a_remedy(arguments, said, in_folder, capsys):
    before = sorted(in_folder.rglob("*"))
    ended(arguments)
    assert said in " ".join(capsys.readouterr().err.split())
    assert sorted(in_folder.rglob("*")) == before


@pytest.mark.skipif(importlib.util.find_spec("nicegui") is None, reason="nicegui is not installed")
def test_exploring_a_table_is_refused(in_folder, capsys):
    ended(["explore", "runs/vae", "--port", "18997"])
    assert "a model of a table" in capsys.readouterr().err
    assert exploration


def test_the_settings_of_tables_are_flags_and_python_defaults():
    config = for_table(VAEConfig(data="penguins", latent_size=3))
    assert (config.network, config.likelihood, config.latent_size) == ("mlp", "columns", 3)
    columns = data.read_table("penguins").columns
    model = build_for_table(config, columns, 10)
    assert model.columns == columns
    assert model.likelihood.scale == config.column_scale
    assert [layer.units for layer in model.encoder.layers if hasattr(layer, "units")][:2] == [
        *config.hidden
    ]
    config = for_table(AutoencoderConfig(data="penguins", column_scale="decoded"))
    model = build_for_table(config, columns, 10)
    assert model.loss is model.likelihood
    assert model.likelihood.scale == "decoded"
    with pytest.raises(ValueError, match=r"on tables: autoencoder, vae\. Received: gan"):
        build_for_table(GANConfig(data="penguins"), columns, 10)


def test_an_autoencoder_of_a_table_generates_and_scores_but_does_not_impute(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_publish", lambda config, folder: None)
    arguments = ["--epochs", "1", "--hidden", "8", "--latent-size", "2"]
    cli.main(["train", "autoencoder", "--data", "penguins", *arguments])
    assert capsys.readouterr().out.startswith(f"{data.read_table('penguins')}\n\n")
    frame = pd.read_csv("runs/autoencoder/samples.csv")
    assert set(frame["species"]) <= {"Adelie", "Chinstrap", "Gentoo"}
    assert len(pd.read_csv(finished.score("runs/autoencoder", "penguins", "s.csv"))) == 344
    with pytest.raises(ValueError, match=r"`given` needs a VAE of a table.* a RegularizedAuto"):
        finished.sample("runs/autoencoder", given=["species=Adelie"])
    with pytest.raises(ValueError, match=r"`impute` needs a VAE of a table"):
        finished.impute("runs/autoencoder", PENGUINS, "x.csv")


def test_given_entries_are_entries_of_one_row():
    columns = (Column("a=b", "real"), Column("a", "count"), Column("c", "category", (1, 2, 3)))
    row = tables.parse_given(columns, ["a=b=2.5", "c=3"])
    np.testing.assert_array_equal(row, [[2.5, np.nan, 2.0]])


def test_a_table_of_grey_values_is_no_table_unless_kinds_say_so(tmp_path):
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).random((40, 5)), delimiter=",")
    config = VAEConfig(data=str(tmp_path / "x.csv"))
    assert not tables.is_table(config)
    assert tables.is_table(dataclasses.replace(config, kinds=("column_0=real",)))


def test_scores_of_images_have_their_file_or_index(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, *support.IMAGE), np.uint8)
    model = support.trained("autoencoder", images / np.float32(255))
    folder = RunFolder(tmp_path / "runs" / "autoencoder")
    folder.path.mkdir(parents=True)
    folder.write_config(AutoencoderConfig())
    folder.save_model(model)
    np.savez(tmp_path / "x.npz", x=images)
    for index, image in enumerate(images):
        path = tmp_path / "images" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_img(path, image, scale=False)
    expected = model.score(images / np.float32(255)).numpy()
    frame = pd.read_csv(finished.score(folder, tmp_path / "x.npz", tmp_path / "n.csv"))
    assert frame["index"].tolist() == [*range(6)]
    np.testing.assert_allclose(frame["score"], expected, rtol=1e-5)
    assert (frame["anomaly"] == (expected > model.threshold)).all()
    maps = tmp_path / "maps"
    found = finished.score(folder, tmp_path / "images", tmp_path / "f.csv", heat_maps=maps)
    frame = pd.read_csv(found)
    files = [f"{index % 2}/{index}.png" for index in range(6)]
    found = frame.set_index("file")["score"][files]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert sorted(maps.rglob("*.png")) == sorted(maps / f"{file}.png" for file in files)
    height, width, _ = support.IMAGE
    pixels = images / np.float32(255)
    parts = model.score_per_feature(pixels).numpy().reshape(6, -1)
    for index, file in enumerate(files):
        shown = np.asarray(load_img(maps / f"{file}.png"))[::16, ::16]
        assert shown.shape == (height, 3 * width, 3)
        np.testing.assert_allclose(shown[:, :width, 0], images[index, ..., 0], atol=1)
        hottest = shown[:, 2 * width :].sum(axis=-1).argmax()
        assert hottest == parts[index].argmax()


def test_heat_maps_are_for_images_and_for_sums_over_pixels(in_folder, tmp_path):
    with pytest.raises(ValueError, match="`heat_maps` is only for images"):
        finished.score("runs/vae", "table.csv", "s.csv", heat_maps=tmp_path / "maps")
    model, _ = support.tiny_autoencoder()
    model.compile(loss=largest_error)
    folder = RunFolder(tmp_path / "runs" / "autoencoder")
    folder.path.mkdir(parents=True)
    folder.save_model(model)
    np.savez(tmp_path / "x.npz", x=np.zeros((2, *support.IMAGE), np.float32))
    with pytest.raises(ValueError, match="a sum over the pixels"):
        finished.score(folder, tmp_path / "x.npz", tmp_path / "s.csv", heat_maps=tmp_path / "maps")
    vectors = RunFolder(tmp_path / "runs" / "vectors")
    vectors.path.mkdir()
    vectors.save_model(build(AutoencoderConfig(latent_size=2, hidden=(4,)), (5,), 10))
    np.savez(tmp_path / "y.npz", x=np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="`heat_maps` is only for images"):
        finished.score(vectors, tmp_path / "y.npz", tmp_path / "s.csv", heat_maps=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("make", "config", "said"),
    [
        (support.tiny_gan, GANConfig(), "a VAE or an autoencoder.* the run of a GAN"),
        (support.conditional_vae, VAEConfig(), "a model that does not depend on labels"),
        (
            support.tiny_vae,
            VAEConfig(binarize=True),
            "a model that was trained with binarize=False",
        ),
    ],
)
def test_models_that_cannot_score_a_file_are_refused(make, config, said, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_config(config)
    folder.save_model(support.compiled_for_publishing(make))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, *support.IMAGE), np.float32))
    with pytest.raises(ValueError, match=f"`score` needs {said}"):
        finished.score(folder, tmp_path / "x.npz", tmp_path / "s.csv")
    with pytest.raises(ValueError, match="`given` is only for models of tables"):
        finished.sample(folder, output=tmp_path / "s.npy", given=["a=1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.npz"]


@keras.saving.register_keras_serializable("test_table_runs")
def largest_error(target, output):
    return keras.ops.max(keras.ops.abs(target - output), axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("shape", "zoom"), [((64, 32), 2), ((43, 9), 2), ((65, 8), 1), ((200, 8), 1)]
)
def test_small_heat_maps_are_enlarged_to_about_128_pixels_of_height(shape, zoom, tmp_path):
    images = np.zeros((1, *shape, 1), np.float32)
    model = types.SimpleNamespace(reconstruct=tf.constant)
    finished._save_heat_maps(model, tmp_path, ["x"], images, tf.zeros(images.shape))
    height, width = shape
    assert load_img(tmp_path / "x.png").size == (3 * width * zoom, height * zoom)
