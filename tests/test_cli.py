import contextlib
import importlib.metadata
import io
import os
import pathlib
import platform
import pty
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from keras.utils import load_img
from support import without_verifying

from keras_gen import cli
from keras_gen.runs import config
from keras_gen.runs import train as run

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "command-line.md"

HELP = "import sys; sys.argv[0] = '/usr/bin/keras-gen'; from keras_gen.cli import main{}\nassert 'tensorflow' not in sys.modules"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(
        "digits.npz", x=np.random.default_rng(0).integers(0, 256, size=(30, 12, 12), dtype=np.uint8)
    )
    return tmp_path


def test_train_sample_export(in_folder, capsys):
    """What the export publishes is verified for real."""
    with pytest.MonkeyPatch.context() as patch:
        without_verifying(patch)
        cli.main(
            [
                "train",
                "vae",
                "--data",
                "digits.npz",
                "--epochs",
                "1",
                "--network",
                "mlp",
                "--name",
                "mine",
            ]
        )
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
        (
            ["sample", "nowhere"],
            "Expected the folder of a finished run, with model.keras in it. Received: nowhere",
        ),
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
        result = subprocess.run(
            [sys.executable, "-c", HELP.format(call)], capture_output=True, text=True, check=True
        )
        assert all(
            re.sub(r"\s+", " ", part) in re.sub(r"[\s│]+", " ", result.stdout.replace(",\n", ","))
            for part in expected
        ), result.stdout


def ended(arguments, code=2):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert (stopped.value.code or 0) == code


@pytest.mark.parametrize("command", ["", *cli.EXAMPLES])
def test_help_ends_with_examples_that_can_be_typed(command, capsys):
    words = ["train", command] if command in config.KINDS else command.split()
    ended([*words, "--help"], 0)
    examples = [
        line.strip() for line in capsys.readouterr().out.split("Examples:\n")[1].splitlines()
    ]
    assert 1 <= len(examples) <= 3
    for example in examples:
        assert example.startswith(" ".join(["keras-gen", *words]))
        cli._parse(shlex.split(example)[1:])


def test_the_page_lists_commands_that_can_be_typed():
    lines = re.findall(r"^    keras-gen (.*)$", PAGE.read_text(), re.MULTILINE)
    lines = [line for line in lines if not re.search("--(help|version|tyro)", line)]
    assert len(lines) > 5
    for line in lines:
        cli._parse(shlex.split(line, comments=True))


def test_version_is_that_of_the_stack_without_tensorflow():
    call = "\nmain(['--version'])"
    result = subprocess.run(
        [sys.executable, "-c", HELP.format(call)], capture_output=True, text=True, check=True
    )
    versions = dict(line.split() for line in result.stdout.splitlines())
    names = [
        "keras_gen",
        "tensorflow",
        "keras",
        "tensorflow-probability",
        "tensorflow-datasets",
        "numpy",
    ]
    assert versions == {name: importlib.metadata.version(name) for name in names} | {
        "python": platform.python_version()
    }
    assert not result.stderr


@pytest.mark.parametrize("place", [0, 1, 2, 4])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("the batch size"), 2),
        (KeyError("the batch size"), 1),
        (OSError("the batch size"), 1),
    ],
)
def test_debug_shows_the_traceback_wherever_it_stands(error, code, place, monkeypatch, capsys):
    def fails(config):
        raise error

    monkeypatch.setattr(run, "train", fails)
    arguments = ["train", "vae", "--epochs", "1"]
    ended(arguments, code)
    short = capsys.readouterr().err
    assert "the batch size" in short
    assert "Traceback" not in short
    assert (
        ("KeyError" in short) == ("--debug" in short) == (code == 1 and isinstance(error, KeyError))
    )
    ended([*arguments[:place], "--debug", *arguments[place:]], code)
    long = capsys.readouterr().err
    assert "in fails" in long
    assert long.endswith(short)


def test_a_tensorflow_that_cannot_be_imported_is_an_error_without_traceback(in_folder):
    (in_folder / "tensorflow.py").write_text("raise ImportError('no such library')")
    (in_folder / "model.keras").touch()
    call = "\ntry: main(['sample', '.'])\nexcept SystemExit as stop: assert stop.code == 1"
    environment = {**os.environ, "PYTHONPATH": str(in_folder)}
    result = subprocess.run(
        [sys.executable, "-c", HELP.format(call)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr.startswith("keras-gen: error: ImportError: no such library")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["trian", "vae"], "Did you mean train?"),
        (["--debug", "trian", "vae"], "Did you mean train?"),
        (["train", "vea"], "Did you mean vae?"),
        (["exprot", "runs/vae"], "Did you mean export?"),
        (["train", "vae", "--epoch", "3"], "--epochs INT"),
        (["train", "vae", "--prior", "mixtrue"], "'mixture'"),
        (["evaluate", "runs/vea"], "Did you mean runs/vae?"),
        (["audit", "rusn/vae"], "Did you mean runs/vae?"),
        (["train", "--resume", "runs/vea"], "Did you mean runs/vae?"),
    ],
)
def test_a_misspelt_name_has_a_suggestion(arguments, suggestion, in_folder, capsys):
    for name in ("vae", "other"):
        (in_folder / "runs" / name).mkdir(parents=True)
        (in_folder / "runs" / name / "config.yaml").touch()
        (in_folder / "runs" / name / "model.keras").touch()
    ended(arguments)
    error = capsys.readouterr().err
    assert suggestion in re.sub(r"[\s│]+", " ", error)
    assert error.count("Did you mean") == suggestion.count("Did you mean")


def test_nothing_is_suggested_for_what_is_like_nothing(in_folder, capsys):
    for arguments in (["frobnicate"], ["evaluate", "nowhere"], ["train", "vae", "--nmae", "vea"]):
        ended(arguments)
        assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["sample", "nowhere"], ["train"], ["train", "--resume", "nowhere"]]
)
def test_a_mistake_that_needs_no_tensorflow_does_not_wait_for_it(arguments, in_folder):
    call = f"\ntry: main({arguments})\nexcept SystemExit as stop: assert stop.code == 2"
    subprocess.run([sys.executable, "-c", HELP.format(call)], capture_output=True, check=True)


def shown(arguments, on_terminal, **environment):
    """What `keras-gen` writes, stdout to a terminal, stderr to one too if `on_terminal`."""
    reader, terminal = pty.openpty()
    call = f"\ntry: main({arguments})\nexcept SystemExit: pass"
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if key not in ("NO_COLOR", "FORCE_COLOR")
        },
        **environment,
    }
    with os.fdopen(reader, "rb", buffering=0) as screen, os.fdopen(terminal, "wb") as terminal:
        process = subprocess.run(
            [sys.executable, "-c", HELP.format(call)],
            stdout=terminal,
            stderr=terminal if on_terminal else subprocess.PIPE,
            env={**environment, "TERM": "xterm"},
            check=True,
        )
        return screen.read(10_000) if on_terminal else process.stderr


def test_colours_are_for_a_terminal_that_wants_them(capsys):
    assert b"\x1b[" in shown(["trian"], on_terminal=True)
    assert b"\x1b[" not in shown(["trian"], on_terminal=True, NO_COLOR="1")
    assert b"\x1b[" not in shown(["trian"], on_terminal=False)
    ended(["trian"])
    ended(["--help"], 0)
    assert "\x1b[" not in "".join(capsys.readouterr())


COMPLETE = """source {script}
COMP_WORDS=(keras-gen "$@") COMP_CWORD=$#
_keras_gen
printf '%s\n' "${{COMPREPLY[@]}}"
[[ ${{#COMPREPLY[@]}} > 0 ]] || complete -p keras-gen  # nothing: then bash has its own, the names of files
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_after_what_the_page_says(tmp_path):
    block = next(
        block
        for block in re.findall(r"((?:^    .*\n)+)", PAGE.read_text(), re.MULTILINE)
        if "completion bash" in block
    )
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path}
    subprocess.run(["bash", "-ec", textwrap.dedent(block)], env=environment, check=True)
    script = tmp_path / ".local/share/bash-completion/completions/keras-gen"
    subprocess.run(["bash", "-n", script], check=True)
    for words, expected in (
        (["tr"], {"train"}),
        (["train", "v"], {"vae"}),
        (["train", "vae", "--epo"], {"--epochs"}),
        (["train", "vae", "--pri"], {"--prior", "--prior-components"}),
        (["train", "vae", "--prior", "m"], {"mixture"}),
        (["--ver"], {"--version"}),
        (["evaluate", ""], {"-h", "--help", "--num-samples", "--seed"}),
        (["evaluate", "ru"], {"complete", "-o", "default", "-F", "_keras_gen", "keras-gen"}),
    ):
        program = ["bash", "-c", COMPLETE.format(script=script), "bash", *words]
        completed = subprocess.run(program, capture_output=True, text=True, check=True)
        assert set(completed.stdout.split()) == expected


def test_the_script_that_completes_is_all_that_is_written():
    with contextlib.redirect_stdout(io.StringIO()) as output:
        ended(["--tyro-print-completion", "zsh"], 0)
    assert output.getvalue().startswith("#compdef keras-gen")
    assert "Examples:" not in output.getvalue()
