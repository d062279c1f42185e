import re
import subprocess
import sys

import numpy as np
import pytest
from keras.utils import load_img

from keras_gen import cli

HELP = "import sys; sys.argv[0] = '/usr/bin/keras-gen'; from keras_gen.cli import main{}\nassert 'tensorflow' not in sys.modules"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", x=np.random.default_rng(0).integers(0, 256, size=(30, 12, 12), dtype=np.uint8))
    return tmp_path


def test_train_sample_export(in_folder, capsys):
    cli.main(["train", "vae", "--data", "digits.npz", "--epochs", "1", "--network", "mlp", "--name", "mine"])
    assert (in_folder / "runs" / "mine" / "model.keras").is_file()
    assert (in_folder / "savedmodels" / "mine" / "1" / "saved_model.pb").is_file()
    cli.main(["sample", "runs/mine", "--num-samples", "20", "--output", "new/picture.png"])
    assert load_img("new/picture.png").size == (240, 48)
    capsys.readouterr()
    cli.main(["export", "runs/mine"])
    assert capsys.readouterr().out.strip() == "savedmodels/mine/2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nowhere"], "Expected the folder of a finished run, with model.keras in it. Received: nowhere"),
        (["train", "gan", "--data", "none.npz"], "Received: none.npz, which does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(in_folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-gen: error: ")
    assert message in error
    assert "Traceback" not in error


def test_help_lists_every_flag_with_its_default_and_needs_no_tensorflow():
    for arguments, expected in (
        ([], ["train", "sample", "export"]),
        (["train"], ["autoencoder", "vae", "gan"]),
        (
            ["train", "vae"],
            [
                "--epochs INT",
                "--kl-weight FLOAT",
                "(default: 1.0)",
                "--likelihood {bernoulli,continuous_bernoulli,normal,categorical}",
            ],
        ),
        (["sample"], ["--num-samples INT"]),
    ):
        call = f"\ntry: main({[*arguments, '--help']})\nexcept SystemExit as stop: assert stop.code == 0"
        result = subprocess.run([sys.executable, "-c", HELP.format(call)], capture_output=True, text=True, check=True)
        assert all(re.sub(r"\s+", " ", part) in re.sub(r"[\s│]+", " ", result.stdout.replace(",\n", ",")) for part in expected), (
            result.stdout
        )
