"""The command line: help, examples, errors, completion; each command has tests of its own."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import inspect
import io
import os
import pathlib
import platform
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import types
import warnings

import numpy as np
import pytest
from keras.utils import load_img
from support import without_verifying

from keras_gen import cli, serving
from keras_gen._column_values import NUMBER_REMEDY
from keras_gen.data._csv import HEADER_REMEDY
from keras_gen.fitting import NonFiniteError
from keras_gen.runs import RECIPES, RunFolder
from keras_gen.runs import evaluate as finished
from keras_gen.runs import train as run
from keras_gen.runs.recipes import VAEConfig

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "command-line.md"

HELP = """
import sys
sys.argv[0] = '/usr/bin/keras-gen'
from keras_gen.cli import main{}
assert not {{'tensorflow', 'keras'}} & sys.modules.keys()
"""


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(
        "digits.npz", x=np.random.default_rng(0).integers(0, 256, size=(30, 12, 12), dtype=np.uint8)
    )
    return tmp_path


def test_train_sample_export(in_folder, capsys):
    """The export is verified in a process of its own, as a user's is."""
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
    cli.main(["sample", "runs/mine", "--num-samples", "20", "--output", "new/image.png"])
    assert load_img("new/image.png").size == (240, 48)
    capsys.readouterr()
    cli.main(["export", "runs/mine"])
    assert capsys.readouterr().out.strip() == "savedmodels/mine/2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["sample", "nowhere"],
            "The folder of a finished run must contain model.keras. Received: nowhere",
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
        (["train"], ["autoencoder Train a", "vae Train a", "gan Train a"]),
        (
            ["train", "vae"],
            [
                "--epochs INT",
                "--kl-weight FLOAT",
                "(default: 1.0)",
                "--likelihood {bernoulli,continuous_bernoulli,normal,categorical, "
                "logistic_mixture,columns}",
            ],
        ),
        (["sample"], ["--num-samples INT"]),
    ):
        call = f"\ntry: main({[*arguments, '--help']})"
        call += "\nexcept SystemExit as stop: assert stop.code == 0"
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


@pytest.mark.parametrize("command", cli.examples())
def test_help_ends_with_examples_that_can_be_typed(command, capsys):
    words = ["train", command] if command in RECIPES else command.split()
    ended([*words, "--help"], 0)
    examples = [
        line.strip() for line in capsys.readouterr().out.split("Examples:\n")[1].splitlines()
    ]
    assert 1 <= len(examples) <= 3
    for example in examples:
        assert example.startswith(" ".join(["keras-gen", *words]))
        cli._parse(shlex.split(example)[1:])


def test_the_commands_of_the_page_can_be_typed():
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
    def fails(config, set_defaults):
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


def test_without_a_similar_name_nothing_is_suggested(in_folder, capsys):
    for arguments in (["frobnicate"], ["evaluate", "nowhere"], ["train", "vae", "--nmae", "vea"]):
        ended(arguments)
        error = capsys.readouterr().err
        assert "Did you mean" not in error
        assert "needs a kind of model" not in error


@pytest.mark.parametrize("command", [["train", "gan"], ["train"], ["sample"]])
def test_help_of_a_kind_says_that_other_data_have_other_defaults(command, capsys):
    ended([*command, "--help"], 0)
    assert ("add --dry-run." in capsys.readouterr().out) == (len(command) == 2)


def test_help_of_train_has_the_registered_kinds_and_no_other_subcommand(capsys):
    ended(["train", "--help"], 0)
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.endswith("{" + ",".join(RECIPES) + "}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "nowhere"],
        ["train"],
        ["train", "--resume", "nowhere"],
        ["explore", "runs/vae", "--port", "70000"],
    ],
)
def test_a_mistake_that_needs_no_tensorflow_does_not_wait_for_it(arguments, in_folder):
    folder, _ = RunFolder.create(VAEConfig())
    folder.model_file.touch()
    call = f"\ntry: main({arguments})\nexcept SystemExit as stop: assert stop.code == 2"
    subprocess.run([sys.executable, "-c", HELP.format(call)], capture_output=True, check=True)


def shown(arguments, on_terminal, **environment):
    """Return what `keras-gen` writes to a terminal if `on_terminal`, or else to stderr."""
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
# without completions of its own, bash completes the names of files
[[ ${{#COMPREPLY[@]}} > 0 ]] || complete -p keras-gen
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_after_the_commands_of_the_page(tmp_path):
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
        (["train", "v"], {"vae", "vq_vae"}),
        (["train", "vae", "--epo"], {"--epochs"}),
        (["train", "vae", "--pri"], {"--prior", "--prior-components"}),
        (["train", "vae", "--prior", "m"], {"mixture"}),
        (["--ver"], {"--version"}),
        (["evaluate", ""], {"-h", "--help", "--num-samples", "--seed", "--extractor"}),
        (["evaluate", "ru"], {"complete", "-o", "default", "-F", "_keras_gen", "keras-gen"}),
    ):
        program = ["bash", "-c", COMPLETE.format(script=script), "bash", *words]
        completed = subprocess.run(program, capture_output=True, text=True, check=True)
        assert set(completed.stdout.split()) == expected


def test_printing_the_completion_script_prints_nothing_else():
    with contextlib.redirect_stdout(io.StringIO()) as output:
        ended(["--tyro-print-completion", "zsh"], 0)
    assert output.getvalue().startswith("#compdef keras-gen")
    assert "Examples:" not in output.getvalue()


# === Library messages, in the terms of the command line ===


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("Pass `skip_corrupt=True`."), "error: Pass `--skip-corrupt`."),
        (
            ValueError(
                "Pass a list, such as `kinds={'my size': ['S', 'M']}` if this is the order."
            ),
            "such as `--kinds 'my size=S,M'` if this",
        ),
        (ValueError(f"A number. {NUMBER_REMEDY}"), "value, leave it empty. If the column"),
        (
            ValueError(
                "Correct the entry, leave it empty if it is not known, or pass `unseen='missing'` "
                "to treat unseen categories as missing."
            ),
            "Correct the entry, or leave it empty if it is not known.",
        ),
        (ValueError(f"Names or values. {HEADER_REMEDY}"), "values. If the line contains the names"),
        (ValueError("Pass it as `data_dir`."), "error: Pass it as `--data-dir`."),
        (NonFiniteError.of(3, {"loss": np.nan}), "or clip the gradients: --clip-norm 1."),
    ],
)
def test_python_arguments_are_translated_into_flags(error, expected, monkeypatch, capsys):
    def fails(config, set_defaults):
        raise error

    monkeypatch.setattr(run, "train", fails)
    ended(["train", "vae"], 2 if isinstance(error, ValueError) else 1)
    assert expected in capsys.readouterr().err


def test_notes_name_the_command_that_resumes_a_run(monkeypatch, capsys):
    def stops(config, set_defaults):
        with run._hint_to_resume(RunFolder("runs/it's mine")):
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", stops)
    ended(["train", "vae"], 130)
    assert capsys.readouterr().err.splitlines() == [
        "keras-gen: stopped",
        "keras-gen: `keras-gen train --resume 'runs/it'\"'\"'s mine'` continues the training.",
    ]


def test_warnings_are_one_line_and_only_while_a_command_runs(monkeypatch, capsys):
    before = (warnings.showwarning, warnings.formatwarning)
    monkeypatch.setattr(run, "train", lambda *arguments: warnings.warn("the weather", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main(["train", "vae"])
    assert capsys.readouterr().err == "keras-gen: warning: the weather\n"
    assert (warnings.showwarning, warnings.formatwarning) == before


# === Resuming, and tables ===


def test_flags_of_a_resumed_run_default_to_its_configuration(in_folder, monkeypatch, capsys):
    folder, _ = RunFolder.create(VAEConfig(latent_size=7, epochs=3))
    calls = []
    monkeypatch.setattr(run, "resume", lambda path, config: calls.append((path, config)))
    cli.main(["train", "--resume", "runs/vae"])
    cli.main(["train", "vae", "--resume", "runs/vae", "--epochs", "9"])
    assert calls == [
        (folder.path, None),
        (folder.path, VAEConfig(latent_size=7, epochs=9)),
    ]
    os.chdir("runs")  # where the name of the run is that of a kind
    cli.main(["train", "--resume", "vae"])
    assert calls[-1] == (pathlib.Path("vae"), None)


def test_a_dry_run_describes_the_settings_and_trains_nothing(in_folder, monkeypatch, capsys):
    RunFolder.create(VAEConfig(epochs=3))
    for name in ("train", "resume"):
        monkeypatch.setattr(run, name, lambda *arguments: pytest.fail("it was trained"))
    monkeypatch.setattr(
        run, "describe", lambda config, set_defaults: f"{config.epochs}, {set_defaults is None}"
    )
    cli.main(["train", "--dry-run", "vae", "--epochs", "7"])
    cli.main(["train", "--dry-run", "--resume", "runs/vae"])
    cli.main(["train", "--dry-run", "vae", "--resume", "runs/vae", "--seed", "1"])
    assert capsys.readouterr().out == "7, False\n3, True\n3, True\n"


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_the_data_set_defaults_and_flags_replace_them(monkeypatch, flags):
    configs = []
    defaults = RECIPES["vae"].table_defaults
    assert defaults["epochs"] != 4

    def take(config, set_defaults):
        configs.append(set_defaults(defaults))

    monkeypatch.setattr(run, "describe" if flags else "train", take)
    cli.main(["train", *flags, "vae", "--data", "penguins", "--seed", "3"])
    cli.main(["train", *flags, "vae", "--data", "penguins", "--epochs", "4"])
    cli.main(["train", *flags, "vae", "--epochs", str(VAEConfig().epochs)])
    assert configs == [
        VAEConfig(**{**defaults, "data": "penguins", "seed": 3}),
        VAEConfig(**{**defaults, "data": "penguins", "epochs": 4}),
        VAEConfig(**{**defaults, "epochs": VAEConfig().epochs}),
    ]


# === Each command calls one function ===


@pytest.fixture
def finished_run(in_folder):
    """A folder that looks like that of a finished run."""
    folder = RunFolder("runs/it's")
    folder.path.mkdir(parents=True)
    folder.model_file.touch()
    return folder.path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "sample --num-samples 3 --seed 4 --output a.csv --given age=5 sex=f",
            (3, 4, pathlib.Path("a.csv"), ("age=5", "sex=f")),
        ),
        (
            "impute --data a.csv --output b.csv --num-imputations 2 --num-samples 3 --seed 4",
            ("a.csv", pathlib.Path("b.csv"), 2, 3, 4),
        ),
        (
            "score --data a.csv --output b.csv --heat-maps maps",
            ("a.csv", pathlib.Path("b.csv"), pathlib.Path("maps")),
        ),
        (
            "evaluate --num-samples 3 --seed 4 --extractor a.keras",
            (3, 4, pathlib.Path("a.keras")),
        ),
        ("audit --epochs 2 --num-seeds 3 --images 4 --num-samples 5", (2, 3, 4, 5)),
        ("export --base models --png", (pathlib.Path("models"), True)),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_a_command_calls_its_function_and_prints_the_result(
    flags, expected, finished_run, monkeypatch, capsys
):
    name, *flags = flags.split()
    calls = []
    monkeypatch.setattr(finished, name, lambda *found: calls.append(found) or "the result")
    cli.main([name, str(finished_run), *flags])
    assert calls == [(finished_run, *expected)]
    report = f"\nThe report is {finished_run}/report.html.\n" if name == "evaluate" else ""
    assert capsys.readouterr().out == f"the result\n{report}"


@pytest.mark.parametrize(
    ("density", "name"), [({}, "flow"), ({"fitted_components": 7}, "mixture, 7 components")]
)
def test_fit_density_prints_the_density_and_the_next_commands(
    density, name, finished_run, monkeypatch, capsys
):
    density = types.SimpleNamespace(name=name.split(",")[0], **density)
    monkeypatch.setattr(finished, "fit_density", lambda *arguments: density)
    cli.main(["fit-density", str(finished_run)])
    run_in_shell = shlex.quote(str(finished_run))
    assert capsys.readouterr().out.splitlines() == [
        f"The run contains the density: {name}.",
        f"`keras-gen evaluate {run_in_shell}` and `keras-gen export {run_in_shell}` use it.",
    ]


def test_verify_prints_the_signatures_and_exits_with_1_if_there_are_problems(monkeypatch, capsys):
    row = {"inputs": {}, "outputs": {}, "difference": 0.0, "milliseconds": 1.0}
    for signatures, problems in (({"generate": row}, []), ({}, ["no seed", "no model"])):
        found = serving.Verification(pathlib.Path("x"), signatures, 1234, problems)
        monkeypatch.setattr(serving, "verify", lambda folder, found=found: found)
        if problems:
            ended(["verify", "x"], 1)
        else:
            cli.main(["verify", "x"])
        output, error = capsys.readouterr()
        assert output == (f"{found}\n" if signatures else "")
        assert error.splitlines() == [f"keras-gen: x: {problem}" for problem in problems]


def test_explore_serves_the_page_at_a_free_port(finished_run, monkeypatch, capsys):
    calls = []
    page = types.SimpleNamespace(explore=lambda *found: calls.append(found))
    monkeypatch.setitem(sys.modules, "keras_gen.explore.page", page)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ended(["explore", str(finished_run), "--port", str(port)])
        assert f"must be a free port. Received: {port} (" in capsys.readouterr().err
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()  # the server closes first, so its port waits a minute
            client.recv(1)
    cli.main(["explore", str(finished_run), "--port", str(port), "--show"])
    assert calls == [(finished_run, port, True)]
    ended(["explore", str(finished_run), "--port", "70000"])
    assert "must be a free port. Received: 70000 (" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ended(["explore", str(finished_run), "--port", str(port)])
    assert "pip install 'keras_gen[explore]'" in capsys.readouterr().err
    assert len(calls) == 1


def test_the_signal_to_terminate_ends_a_command_with_143(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run, "train", lambda *arguments: signal.raise_signal(signal.SIGTERM))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # without a handler, the tests would end
    try:
        ended(["train", "vae"], 143)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_console_without_a_character_gets_its_escape(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(run, "describe", lambda *arguments: "±")
    cli.main(["train", "vae", "--dry-run"])
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xb1\n"


def test_tensorflow_logs_only_errors_unless_the_user_wants_more(monkeypatch):
    for wanted, level in ((None, "2"), ("0", "0")):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", wanted or "")
        if wanted is None:
            monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
        cli.main(["--version"])
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level


# === Kinds of the user ===


KIND = """
import dataclasses
from keras_gen.runs import Recipe, RunConfig, register

@dataclasses.dataclass(frozen=True)
class MineConfig(RunConfig):
    '''Train a model of mine.'''
    depth: int = 2
    '''Number of layers.'''

def build(config, data_shape, steps, num_classes):
    raise ValueError("the depth is " + str(config.depth))

register("my_kind", Recipe("My model", MineConfig, build, examples=("keras-gen train my_kind",)))
"""


@pytest.fixture
def my_kind(in_folder):
    """A file that registers `my_kind`."""
    path = in_folder / "my_kind.py"
    path.write_text(KIND)
    yield str(path)
    RECIPES.pop("my_kind", None)
    for name in [name for name in sys.modules if name.startswith("my_kind")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "before", [["--import", "my_kind.py"], ["--import=my_kind.py"], ["--import", "my_kind"]]
)
def test_an_imported_file_or_module_registers_a_kind(before, my_kind, capsys, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(my_kind).parent)
    ended([*before, "train", "my_kind", "--data", "digits.npz", "--depth", "5"])
    assert capsys.readouterr().err.startswith("keras-gen: error: the depth is 5")
    ended([*before, "train", "my_kind", "--help"], 0)  # imported once per process
    output = capsys.readouterr().out
    assert re.search(r"--depth INT +Number of layers\. \(default: 2\)", output)
    assert "Examples:\n  keras-gen train my_kind\n" in output
    ended(["train", "--help"], 0)
    assert "my_kind" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.py", "FileNotFoundError"),
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("broken.py", "NameError: name 'undefined' is not defined"),
    ],
)
def test_an_import_that_fails_says_why(name, reason, in_folder, capsys):
    (in_folder / "broken.py").write_text("undefined")
    ended(["--import", name, "train", "vae"])
    error = capsys.readouterr().err
    assert error.startswith("keras-gen: error: `--import` must name a Python file")
    assert f"Received: {name}, which raises {reason}" in error
    assert len(error.splitlines()) == 1
    ended(["train", "vae", "--import"])
    assert "Missing value for argument '--import" in re.sub(r"[\s│]+", " ", capsys.readouterr().err)


@pytest.mark.parametrize("command", [["evaluate"], ["sample"], ["export"], ["train", "--resume"]])
def test_a_run_of_an_unknown_kind_says_what_to_import(command, my_kind, capsys):
    run_folder = RunFolder("runs/mine")
    run_folder.path.mkdir(parents=True)
    run_folder.config_file.write_text("model: my_kind\n")
    if command[0] != "train":
        run_folder.model_file.touch()
    ended([*command, "runs/mine"])
    error = capsys.readouterr().err
    known = ", ".join(RECIPES)
    assert f"must be a registered kind: {known}. Received: model: my_kind" in error
    assert "name the file that registers it: `keras-gen --import FILE …`" in error


def test_a_kind_that_is_not_registered_is_explained(capsys):
    ended(["train", "my_kind"])
    assert "`keras-gen --import FILE train KIND`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["sample", "impute", "score", "evaluate", "audit", "fit-density", "export"]
)
def test_the_flags_have_the_defaults_of_the_python_functions(name):
    command = {field.name: field.default for field in dataclasses.fields(cli._COMMANDS[name])}
    function = inspect.signature(getattr(finished, name.replace("-", "_"))).parameters
    assert list(command) == list(function)
    for argument, parameter in function.items():
        if parameter.default is not inspect.Parameter.empty:
            assert command[argument] == parameter.default, argument
