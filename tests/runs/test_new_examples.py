"""New examples for `keras-gen score`, and files whose missing entries are filled in."""

import gzip

import numpy as np
import pandas
import PIL.Image
import PIL.ImageOps
import pyarrow.parquet
import pytest

from keras_gen import data
from keras_gen._columns import Column
from keras_gen.runs import config_file, tables
from keras_gen.runs.new_examples import new_examples
from keras_gen.runs.recipes import GANConfig, VAEConfig

NAN = float("nan")
RANDOM = np.random.default_rng(0)


def read(source, shape):
    """Return the title, the names and all examples of a source."""
    title, names, batches = new_examples(source, shape)
    batches = list(batches)
    assert all(batch.dtype == np.float32 for batch in batches)
    assert all(len(batch) == 256 for batch in batches[:-1])
    return title, names, np.concatenate(batches)


@pytest.mark.parametrize(
    ("dtype", "largest"), [("uint8", 255), ("uint16", 65535), ("float64", 1), ("int64", 1)]
)
def test_pixels_of_npz_files_are_scaled_by_their_dtype(tmp_path, dtype, largest):
    x = np.array([[0, 1], [largest, largest // 2]]).astype(dtype)[..., None].repeat(3, axis=2)
    np.savez(tmp_path / "x.npz", x=x)
    title, names, found = read(tmp_path / "x.npz", (2, 3))
    assert (title, names) == ("index", [0, 1])
    np.testing.assert_allclose(found, x / largest, rtol=1e-6)
    assert read(tmp_path / "x.npz", (2, 3, 1))[2].shape == (2, 2, 3, 1)
    binary = np.minimum(x, 1)
    np.savez(tmp_path / "x.npz", x=binary)  # pixels of 0 and 1
    np.testing.assert_array_equal(read(tmp_path / "x.npz", (2, 3))[2], binary)
    if dtype.startswith("uint"):
        np.savez(tmp_path / "x.npz", x=2 * binary)
        found = read(tmp_path / "x.npz", (2, 3))[2]
        np.testing.assert_allclose(found, 2 * binary / largest, rtol=1e-6)


def test_many_examples_are_read_in_batches(tmp_path):
    x = RANDOM.random((513, 2))
    np.savez(tmp_path / "x.npz", x=x)
    np.testing.assert_allclose(read(tmp_path / "x.npz", (2,))[2], x, rtol=1e-6)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(257):
        PIL.Image.fromarray(np.full((2, 2), index % 256, np.uint8)).save(
            folder / f"{index:03d}.bmp"
        )
    title, names, found = read(folder, (2, 2, 1))
    assert (title, names[:2], len(names)) == ("file", ["000.bmp", "001.bmp"], 257)
    np.testing.assert_allclose(found[:, 0, 0, 0], np.arange(257) % 256 / 255, rtol=1e-6)


@pytest.mark.parametrize("scale", [1, 255])
def test_rows_of_a_table_are_counted_from_1(tmp_path, scale):
    x = RANDOM.integers(0, 256, (5, 16))
    x[0] = 255
    values = x if scale == 255 else x / 255
    np.savetxt(tmp_path / "x.csv", values, delimiter=",", fmt="%.9g")
    title, names, found = read(tmp_path / "x.csv", (16,))
    assert (title, names) == ("row", [1, 2, 3, 4, 5])
    np.testing.assert_allclose(found, x / 255, rtol=1e-6)


def test_images_of_another_size_are_scaled_and_cropped_and_hidden_ones_ignored(tmp_path):
    pixels = RANDOM.integers(0, 256, (6, 9, 3), np.uint8)
    image = PIL.Image.fromarray(pixels)
    for name in ("b/x.PNG", "a.png", ".hidden.png", ".cache/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("text")
    _, names, found = read(tmp_path, (4, 4, 3))
    assert names == ["a.png", "b/x.PNG"]
    expected = np.asarray(PIL.ImageOps.fit(image, (4, 4)))
    np.testing.assert_allclose(found, np.stack([expected] * 2) / 255, rtol=1e-6)
    _, _, grey = read(tmp_path, (6, 9, 1))
    np.testing.assert_allclose(grey[0, ..., 0], np.asarray(image.convert("L")) / 255, rtol=1e-6)


def test_images_are_read_as_in_the_training(tmp_path):
    """A large JPEG image can be decoded in a smaller size, and transparent pixels are white."""
    pixels = RANDOM.integers(0, 256, (40, 40, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100)
    for index in range(10):
        PIL.Image.fromarray(np.zeros((40, 40, 4), np.uint8)).save(tmp_path / f"b{index}.png")
    _, _, found = read(tmp_path, (8, 8, 3))
    splits = data.load(tmp_path, 4, image_size=(8, 8))
    expected = min(np.concatenate([*splits[0], *splits[1]]), key=np.mean)  # not a white image
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_array_equal(found[1:], np.ones((10, 8, 8, 3)))


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda path: path / "none.npz", (2,), "does not exist or has another suffix"),
        (lambda path: path / "x.txt.zip", (2,), "does not exist or has another suffix"),
        (lambda path: npz(path, y=np.zeros(3)), (2,), r"the array x, .* Received: y\."),
        (lambda path: npz(path, x=np.zeros((0, 2))), (2,), r"at least one example.*\(0, 2\)"),
        (lambda path: npz(path, x=np.array(["a"])), (2,), "numeric.*dtype <U1"),
        (lambda path: npz(path, x=np.zeros((3, 5))), (2,), r"of shape \(2,\).*shape \(3, 5\)"),
        (lambda path: broken(path), (2,), r"to be an \.npz file of numeric arrays"),
        (lambda path: path, (2,), "the folder .* needs a model of images"),
        (lambda path: path, (2, 2, 2), "the folder .* needs a model of images"),
        (lambda path: path, (2, 2, 1), "which contains no images"),
        (lambda path: table(path), (2,), r"numbers in \[0, 1\], or pixels"),
    ],
)
def test_sources_without_such_examples_are_refused(tmp_path, make, shape, message):
    with pytest.raises(ValueError, match=message):
        new_examples(make(tmp_path), shape)


def npz(path, **arrays):
    np.savez(path / "x.npz", **arrays)
    return path / "x.npz"


def broken(path):
    (path / "x.npz").write_bytes(b"no archive")
    return path / "x.npz"


def table(path):
    (path / "x.csv").write_text("a,b\n1.5,2\n-3,4\n")
    return path / "x.csv"


# === Filled tables ===

COLUMNS = (
    Column("mass", "positive", decimals=2),
    Column("eggs", "count", decimals=0),
    Column("free", "real", decimals=None),
    Column("sex", "category", ("f", "m", "x"), dtype="str"),
    Column("one", "constant", (7,)),
)
COMPLETE = np.array([[1.255, 2.0, 0.1234567, 1, 0], [2.0, 3.0, 5.0, 0, 0]])[:, :4]


def filled(path, text, output, encoding="utf-8", complete=COMPLETE):
    """Write a text file, fill its missing entries, and return the content of the new file."""
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    rows = tables.RowsFile(path, COLUMNS)
    rows.write(output, complete)
    return output.read_bytes()


def test_a_text_file_keeps_everything_but_its_missing_entries(tmp_path):
    text = "sex;mass;eggs;free;more\r\nM ;;2;;é\r\n;3,50;;-0,5;b\r\n".replace("M ", "m")
    found = filled(tmp_path / "x.csv", text, tmp_path / "new" / "one" / "y.csv")
    expected = "sex;mass;eggs;free;more\r\nm;1,25;2;0,123457;é\r\nf;3,50;3;-0,5;b\r\n"
    assert found.decode() in (expected, expected.replace("1,25", "1,26"))
    text = "# made\nmass\teggs\tfree\tsex\n1.5\t\t2\t m\n2.5\t7\t\t\n"
    complete = np.array([[1.5, 2.6, 2, 1], [2.5, 7, -1e-9, 1]])
    found = filled(tmp_path / "x.tsv", text, tmp_path / "y.tsv", complete=complete)
    assert found.decode() == "# made\nmass\teggs\tfree\tsex\n1.5\t3\t2\t m\n2.5\t7\t-1e-09\t m\n"


@pytest.mark.parametrize("name", ["y.csv", "y.csv.gz"])
def test_files_can_be_compressed(tmp_path, name):
    text = "mass,eggs,free,sex\n1.5,,2,m\n2.5,7,3,\n"
    found = filled(tmp_path / "x.csv.gz", text, tmp_path / name)
    content = gzip.decompress(found) if name.endswith(".gz") else found
    assert content.decode() == "mass,eggs,free,sex\n1.5,2,2,m\n2.5,7,3,f\n"


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
@pytest.mark.parametrize("source", [".csv", ".parquet", ".xlsx"])
def test_tables_are_converted(tmp_path, source, suffix):
    frame = pandas.DataFrame(
        {"mass": [NAN, 3.5], "eggs": [2.0, NAN], "free": [NAN, -0.5], "sex": ["m", None]}
    )
    path = tmp_path / f"x{source}"
    if source == ".csv":
        frame.to_csv(path, index=False)
    else:
        tables.write_frame(path, frame)
    rows = tables.RowsFile(path, COLUMNS)
    rows.write(tmp_path / f"y{suffix}", COMPLETE)
    if suffix == ".parquet":
        names = pyarrow.parquet.read_schema(tmp_path / f"y{suffix}").names
        assert names == ["mass", "eggs", "free", "sex"]  # no index
    read_file = pandas.read_parquet if suffix == ".parquet" else pandas.read_excel
    found = read_file(tmp_path / f"y{suffix}")
    assert list(found) == ["mass", "eggs", "free", "sex"]
    assert found["sex"].tolist() == ["m", "f"]
    assert all(found[name].dtype.kind in "if" for name in ("mass", "eggs", "free"))
    numbers = found[["mass", "eggs", "free"]].to_numpy(float)
    np.testing.assert_allclose(numbers, [[1.26, 2, 0.1234567], [3.5, 3, -0.5]], atol=0.011)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["mass"], "texts NAME=VALUE, where NAME is one of the columns mass, eggs, free, sex"),
        (["one=7"], "NAME is one of the columns"),
        (["mass=1", "mass=2"], "each column once. Received: 'mass' more than once"),
        (["sex=z"], "a category of the column 'sex': f, m, x. Received: 'z'"),
        (["mass=heavy"], "a number for the column 'mass'. Received: 'heavy'"),
        (["mass=-1"], "greater than 0"),
    ],
)
def test_given_entries_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        tables.parse_given(COLUMNS, given)


def test_at_most_20_categories_are_shown():
    columns = (Column("letter", "category", tuple("abcdefghijklmnopqrstuvw"), dtype="str"),)
    with pytest.raises(ValueError, match=r"column 'letter': a, b, .*, s, t\. Received: 'z'"):
        tables.parse_given(columns, ["letter=z"])


def test_a_line_of_spaces_is_no_row(tmp_path):
    text = "mass,eggs,free,sex\n1.5,,2,m\n   \n2.5,7,3,\n"
    (tmp_path / "x.csv").write_text(text)
    rows = tables.RowsFile(tmp_path / "x.csv", COLUMNS)
    assert rows.array.shape == (2, 4)
    with pytest.raises(ValueError, match=r"to contain 2 records.* Received: 3 records"):
        rows.write(tmp_path / "y.csv", COMPLETE)
    assert not (tmp_path / "y.csv").exists()


def test_the_rows_of_a_table_in_batches():
    config = VAEConfig(data="penguins", batch_size=100, seed=3)
    table = tables.read_table(config)
    train, test = (np.concatenate([*split]) for split in tables.batches(table, config))
    np.testing.assert_array_equal(test, table.test)
    assert not np.array_equal(train, table.train, equal_nan=True)  # in random order
    rows = [sorted(map(str, rows.tolist())) for rows in (train, table.train)]
    assert rows[0] == rows[1]
    again = next(iter(tables.batches(table, config)[0]))
    np.testing.assert_array_equal(again, train[:100])


def test_a_table_needs_ten_rows(tmp_path):
    for count in (9, 10):
        frame = pandas.DataFrame({"x": RANDOM.normal(size=count), "y": RANDOM.normal(size=count)})
        frame.to_csv(tmp_path / f"{count}.csv", index=False)
        config = VAEConfig(data=str(tmp_path / f"{count}.csv"))
        if count == 9:
            with pytest.raises(ValueError, match=r"at least 10 rows in .* Received: 9 rows"):
                tables.batches(tables.read_table(config), config)
        else:
            _, test = tables.batches(tables.read_table(config), config)
            assert len(next(iter(test))) == 1


@pytest.mark.parametrize("text", ["visits", "=count", "visits=", ""])
def test_kinds_are_texts_of_a_name_and_a_kind(text):
    with pytest.raises(ValueError, match="must consist of texts NAME=KIND"):
        tables.parse_kinds([text])
    assert tables.parse_kinds(["a=b=count", "s=x,y"]) == {"a=b": "count", "s": ["x", "y"]}


def test_the_label_is_a_modeled_column_of_categories():
    assert tables.label_column(COLUMNS, "sex") == (3, COLUMNS[3])
    for label in ("mass", "one", "other"):
        with pytest.raises(ValueError, match=rf"column of categories: sex\. .*label='{label}'"):
            tables.label_column(COLUMNS, label)
    with pytest.raises(ValueError, match="there is none"):
        tables.label_column(COLUMNS[:1], "mass")


def test_tables_have_a_known_suffix(tmp_path):
    assert tables.check_output("X.CSV").name == "X.CSV"
    with pytest.raises(ValueError, match=r"must end in \.csv, \.tsv, \.parquet, \.xlsx\. .*x\.txt"):
        tables.check_output("x.txt")
    frame = pandas.DataFrame({"a": [1, 2], "s": ["x", "é"]})
    tables.write_frame(tmp_path / "deep" / "er" / "x.tsv", frame)
    assert (tmp_path / "deep" / "er" / "x.tsv").read_text(encoding="utf-8") == "a\ts\n1\tx\n2\té\n"
    with pytest.raises(ValueError, match="`data` must be a table"):
        tables.RowsFile(tmp_path / "x.npz", COLUMNS)


# === config.yaml ===


@pytest.mark.parametrize(
    ("config", "other", "expected"),
    [
        (VAEConfig(), VAEConfig(runs="elsewhere", name="mine"), None),
        (VAEConfig(epochs=3), VAEConfig(epochs=4), ("epochs", 3, 4)),
        (VAEConfig(), GANConfig(), ("model", "vae", "gan")),
        (VAEConfig(hidden=(3, 4)), VAEConfig(hidden=(3,)), ("hidden", [3, 4], [3])),
    ],
)
def test_the_first_difference_of_two_configurations(config, other, expected):
    assert config_file.first_difference(config, other) == expected


def test_former_names_and_filters_are_those_of_the_version_that_wrote_the_file():
    text = "model: gan\npictures_every: 7\n"
    assert config_file.from_yaml(text, "x").images_every == 7
    assert config_file.from_yaml("model: vae\nnetwork: conv\n", "x").filters == (32, 64)
    assert config_file.from_yaml("model: vae\nnetwork: conv\nfilters: []\n", "x").filters == ()
    config = VAEConfig(epochs=3, flip=True, hidden=(5, 6), network="mlp", skip_corrupt=False)
    assert config_file.from_yaml(config_file.to_yaml(config), "x") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "x must be a YAML file"),
        ("- 3", "x must contain `model: KIND`"),
        ("epochs: 3", "x must contain `model: KIND`"),
        ("model: vea", "must be a registered kind"),
        ("model: vae\nepochs: many", "must be a field of VAEConfig, .* Received: epochs: 'many'"),
        ("model: vae\ndepth: 3", "must be a field of VAEConfig, .* Received: depth: 3"),
        ("model: vae\n3: 4", "must be a field of VAEConfig, .* Received: 3: 4"),
        ("model: vae\nhelp: true", "must be a field of VAEConfig, .* Received: help: True"),
        ("model: vae\nkinds: ['--']\nepochs: 3", "must be valid in combination"),
    ],
)
def test_wrong_configurations_name_the_field(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        config_file.from_yaml(text, "x")
    assert capsys.readouterr() == ("", "")  # the error says everything
