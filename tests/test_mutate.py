"""The tool for mutation testing, on a tiny package of its own."""

import importlib.util
import json
import pathlib
import subprocess

import pytest

TOOL = pathlib.Path(__file__).parents[1] / "tools" / "mutate.py"

SOURCE = '''"""Ünicode before the code: positions are in bytes."""

def sign(x: int | None) -> int:
    if x < 0:
        return -1
    return 1 + 0


def noted(x, notes):
    notes.append(x)
    text = f"{x + 1}" + "a"
    return not notes or x == 2.5
'''

TESTS = """
from tiny.module import noted, sign

def test_sign():
    assert sign(-1) == -1
    assert sign(3) == 1
"""


@pytest.fixture(scope="module")
def mutate():
    import sys

    spec = importlib.util.spec_from_file_location("mutate", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A git checkout with a package and its tests."""
    folder = tmp_path / "tree"
    for name, text in {
        "tiny/__init__.py": "",
        "tiny/module.py": SOURCE,
        "tests/test_module.py": TESTS,
        "pytest.ini": "[pytest]\nmarkers =\n    slow: slow\n    exhaustive: all\n",
        ".gitignore": "ignored.py\n",
        "ignored.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def test_every_kind_of_mutant_is_drawn_and_types_and_texts_are_left_alone(mutate):
    mutants = mutate.mutants_of("tiny/module.py", SOURCE.encode())
    changes = {(mutant.line, mutant.kind, mutant.replacement) for mutant in mutants}
    assert changes == {
        (4, "comparison", "(x <= 0)"),
        (4, "constant", "(1)"),
        (5, "operator", "(1)"),
        (5, "constant", "(2)"),
        (6, "operator", "(1 - 0)"),
        (6, "constant", "(2)"),
        (6, "constant", "(1)"),
        (10, "statement", "pass"),
        (12, "operator", "(not notes and x == 2.5)"),
        (12, "operator", "(notes)"),
        (12, "comparison", "(x != 2.5)"),
        (12, "constant", "(5.0)"),
    }
    for mutant in mutants:
        compile(mutant.applied(SOURCE.encode()), "module", "exec")
    [dropped] = [mutant for mutant in mutants if mutant.kind == "statement"]
    assert dropped.difference(SOURCE.encode()) == "-    notes.append(x)\n+    pass"


def test_a_mutant_keeps_its_name_if_other_lines_change(mutate):
    before, after = (
        mutate.mutants_of("tiny/module.py", text.encode())
        for text in (SOURCE, SOURCE.replace("def noted", "# a comment\n\ndef noted"))
    )
    assert [m.identifier for m in before] == [m.identifier for m in after]
    assert len({m.identifier for m in before}) == 12
    twice = mutate.mutants_of("m.py", b"a = 1\na = 1\n")
    assert [m.identifier for m in twice] == ["m.py: a = 1 -> a = (2)", "m.py: a = 1 -> a = (2) (2)"]


def test_a_larger_number_draws_the_same_mutants_and_more(mutate, tree):
    all_of_them = mutate.draw(tree, "tiny", 100, seed=1)
    assert len(all_of_them) == 12
    assert mutate.draw(tree, "tiny", 5, seed=1) == all_of_them[:5]
    assert mutate.draw(tree, "tiny", 5, seed=2) != all_of_them[:5]


def test_survivors_are_reported_and_a_second_run_continues(mutate, tree, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # starts sooner
    results = tmp_path / "results.jsonl"
    aside = tmp_path / "aside.txt"
    wanted = mutate.mutants_of("tiny/module.py", SOURCE.encode())
    chosen = [m for m in wanted if m.replacement in ("(1 - 0)", "(x <= 0)", "pass")]
    chosen += [m for m in wanted if m.line == 5 and m.kind == "constant"]
    monkeypatch.setattr(mutate, "draw", lambda *arguments: chosen)
    aside.write_text(f"# reasons\n{chosen[0].identifier}  zero is tested nowhere\n")

    def run(number):
        return mutate.run(tree, "tiny", number, 0, results, 60, aside)

    found = run(4)
    outcomes = {entry["difference"].splitlines()[1]: entry["outcome"] for entry in found.values()}
    assert outcomes == {
        "+    return (1 - 0)": "passed",
        "+    pass": "passed",
        "+        return -(2)": "failed",
    }
    lines = results.read_text().splitlines()
    assert [json.loads(line)["outcome"] for line in lines].count("passed") == 2
    text = mutate.report(found)
    assert text.startswith("1 of 3 mutants were caught.")
    assert "survived: tiny/module.py: return 1 + 0 -> return (1 - 0)" in text
    assert "-    return 1 + 0" in text
    assert (tree / "tiny" / "module.py").read_text(encoding="utf-8") == SOURCE
    monkeypatch.setattr(mutate.Copy, "outcome", lambda *arguments: pytest.fail("tested again"))
    assert run(4) == found


def test_failing_tests_and_missing_reasons_are_refused(mutate, tree, tmp_path):
    (tree / "tests" / "test_module.py").write_text("def test_no():\n    assert False\n")
    aside = tmp_path / "aside.txt"
    with pytest.raises(RuntimeError, match=r"tests/test_module\.py must pass without a mutant"):
        mutate.run(tree, "tiny", 1, 0, tmp_path / "results.jsonl", 60, aside)
    aside.write_text("tiny/module.py: x -> y\n")
    with pytest.raises(ValueError, match="two spaces and a reason"):
        mutate.read_equivalent(aside)


def test_a_mutant_that_never_ends_is_caught(mutate, tree, tmp_path):
    (tree / "tests" / "test_module.py").write_text(
        "import tiny.module\ndef test_loop():\n    while True: pass\n"
    )
    copy = mutate.Copy.of(tree, tmp_path / "copy", 3)
    assert not (copy.root / "ignored.py").exists()
    assert copy.outcome(["tests"]) == "timeout"


def test_modules_have_tests(mutate):
    root = TOOL.parents[1]
    for path in (root / "keras_gen").rglob("*.py"):
        for tests in mutate.tests_of(root, path.relative_to(root).as_posix()):
            assert (root / tests).exists(), (path, tests)


def test_the_test_file_of_the_module_is_first_and_then_those_that_use_its_names(mutate):
    root = TOOL.parents[1]
    found = mutate.likeliest_first(root, "keras_gen/evaluation/quality.py", ["tests/evaluation"])
    assert found[0] == "tests/evaluation/test_quality.py"
    files = [p.relative_to(root).as_posix() for p in (root / "tests/evaluation").glob("test_*.py")]
    assert sorted(found) == sorted(files)
    found = mutate.likeliest_first(root, "keras_gen/_labels.py", ["tests"])
    assert "tests/fitting/test_labels.py" in found  # in a folder of the folder
    found = mutate.likeliest_first(root, "keras_gen/data/_kinds.py", ["tests/data"])
    assert found[0] == "tests/data/test_tables.py"
