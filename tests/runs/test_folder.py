"""The folder of a run: names, configuration, lock, and the section of a model card."""

import ast
import pathlib

import pytest
import yaml

from keras_gen.runs import RunFolder
from keras_gen.runs.recipes import GANConfig, VAEConfig

PACKAGE = pathlib.Path(__file__).parents[2] / "keras_gen"


def test_no_other_module_spells_the_name_of_a_file_of_a_run():
    """Strings of the code only: neither docstrings nor comments."""
    names = ["config.yaml", "environment.yaml", "metrics.csv", "model.keras", "report.html"]
    names += ["evaluation.json", "audit.json", "samples-", "reconstructions-", "correlations.png"]
    modules = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if any(str(string).startswith(tuple(names)) for string in strings):
            modules.add(path.relative_to(PACKAGE).as_posix())
    modules -= {"runs/report.py"}  # its template is called report.html.jinja
    assert modules == {"runs/folder.py"}


def test_a_new_run_gets_the_first_free_name(tmp_path):
    config = VAEConfig(name="digits", runs=tmp_path / "runs")
    (tmp_path / "runs" / "digits-2").mkdir(parents=True)
    created = [RunFolder.create(config) for _ in range(2)]
    assert [(folder.path.name, number) for folder, number in created] == [
        ("digits", 1),
        ("digits-3", 3),
    ]
    assert all(folder.read_config() == config for folder, _ in created)
    assert RunFolder.numbered(config, 3).path == created[1][0].path
    elsewhere = VAEConfig(name="digits", runs=tmp_path / "new" / "runs")
    assert RunFolder.create(elsewhere)[0].path.is_dir()


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock():
        with pytest.raises(ValueError, match="which another process is training"), folder.lock():
            pass
        assert folder.path == tmp_path
    with pytest.raises(BlockingIOError, match="of something else"), folder.lock():
        raise BlockingIOError("of something else")


def test_figures_are_the_last_of_numbered_files(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.figures() == {}
    for path in (
        folder.samples_file(990),
        folder.samples_file(1000),
        folder.samples_file(),
        folder.reconstructions_file(2),
        tmp_path / "codes.png",
    ):
        path.touch()
    assert {name: path.name for name, path in folder.figures().items()} == {
        "samples": "samples-1000.png",
        "reconstructions": "reconstructions-002.png",
        "latents": "codes.png",
    }


def test_missing_files_are_named_with_a_run_of_similar_name(tmp_path):
    runs = tmp_path / "runs"
    for name in ("vae", "other", "digits", "digits-old"):
        folder = RunFolder(runs / name)
        folder.path.mkdir(parents=True)
        folder.write_config(VAEConfig())
    assert not folder.is_finished
    with pytest.raises(ValueError, match=r"must contain config\.yaml.*Did you mean .*vae\?"):
        RunFolder(runs / "vea").read_config()
    with pytest.raises(ValueError, match=r"Did you mean .*digits\?$"):
        RunFolder(runs / "digit").read_config()
    with pytest.raises(
        ValueError,
        match=r"run must be finished.*vae, whose training has not ended.*train\.resume\('.*vae'\)",
    ):
        RunFolder(runs / "vae").load_model()
    (runs / "other" / "model.keras").touch()
    with pytest.raises(ValueError, match=r"must contain model\.keras\..*Did you mean .*other\?"):
        RunFolder(runs / "othre").check_finished()
    RunFolder(runs / "vae").model_file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"model\.keras must be an intact model file"):
        RunFolder(runs / "vae").load_model()


def test_the_names_of_classes_are_readable_in_their_file(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_classes() is None
    folder.write_classes(("ape", "Ürsula"))
    assert folder.classes_file.read_text("utf-8") == '["ape", "Ürsula"]'
    assert folder.read_classes() == ["ape", "Ürsula"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a YAML file"),
        ("- 1", "must contain `model: KIND`, where KIND is one of autoencoder, vae, "),
        ("model: diffusion\n", "must be a registered kind.*Received: model: diffusion"),
        ("model: vae\nepochs: 0\n", "`epochs` must be greater than 0"),
        ("model: vae\nepochs: many\n", "must be a field of VAEConfig.*Received: epochs: 'many'"),
        ("model: vae\nepoch: 3\n", "must be a field of VAEConfig.*Received: epoch: 3"),
    ],
)
def test_a_wrong_configuration_file_is_refused(text, message, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        RunFolder(tmp_path).read_config()


def test_the_model_of_an_unknown_kind_is_refused_before_keras_looks_for_its_class(tmp_path):
    (tmp_path / "config.yaml").write_text("model: diffusion\n")
    (tmp_path / "model.keras").touch()
    with pytest.raises(ValueError, match=r"first import the file that registers it"):
        RunFolder(tmp_path).load_model()


def test_the_training_section_has_configuration_and_last_metrics_and_no_paths(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.training_card() == ""
    folder.write_config(GANConfig(data="/home/somebody/faces.npz", runs=tmp_path))
    folder.metrics_file.write_text("epoch,loss,empty\n0,3.5,\n1,3.0,\n2,2.5,\n")
    card = folder.training_card()
    block = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert (block["model"], block["data"], block["runs"]) == ("gan", "faces.npz", tmp_path.name)
    assert "| epoch | 2 |\n| loss | 2.5 |\n" in card
    assert card.count("| loss |") == 1
    assert list(block)[:2] == ["model", "data"]  # in the order of the configuration
    assert "empty" not in card
    assert "/home" not in card
