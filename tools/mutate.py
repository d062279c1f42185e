"""Mutation testing: change one place of the package at a time, and see whether a test fails.

Usage:

    python tools/mutate.py --number 100 --seed 0 --results mutants.jsonl

The script samples mutants at random over all modules of the package. A mutant changes one operator,
comparison or constant, or drops one statement. For each mutant, the script runs the tests of the
module's folder, such as `tests/fitting` for `keras_gen/fitting/errors.py`, and the tests that
concern every module, `tests/test_interface.py`. If they pass, the script runs the slow tests of the
same files. A mutant is caught if a test fails or the tests exceed `--timeout`. Otherwise it
survived, and a test is missing.

All this happens in a copy of the tree, so the checkout does not change. Each result is written to
the file `--results` immediately. To continue after a stop, run the same command again. The last
lines of the output list the mutants that survived, with their identifiers and differences.

Some mutants compute the same as the original. No test can catch them. List them in
`tools/equivalent_mutants.txt`, one per line: the identifier of the mutant, two spaces, and the
reason. The script then does not count them.

Before the first mutant of a folder, its tests run once without a mutant. If they fail, the script
stops, because no result would mean anything.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import dataclasses
import difflib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[1]
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent_mutants.txt")

# Tests of modules whose folder or file of tests with the same name is missing or not enough.
TESTS = {
    "_arguments": ("tests/networks", "tests/distributions"),
    "_column_values": ("tests/data/test_tables.py",),
    "_columns": ("tests/data/test_tables.py", "tests/distributions/test_columns.py"),
    "_errors": ("tests/fitting",),
    "_export": ("tests/test_export.py", "tests/serving"),
    "_labels": ("tests/fitting/test_labels.py", "tests/models", "tests/data/test_loading.py"),
    "_serialization": ("tests/test_serialization.py", "tests/test_saving.py"),
    "_versions": ("tests/runs", "tests/serving"),
    "fitting": (
        "tests/fitting",
        "tests/models/test_gan.py",
        "tests/models/test_invalid_data.py",
        "tests/models/test_missing_data.py",
    ),
    "objectives": ("tests/test_objectives.py", "tests/test_total_correlation.py"),
    "models": (
        "tests/models",
        "tests/test_conformance.py",
        "tests/test_saving.py",
        "tests/fitting/test_non_finite.py",
        "tests/fitting/test_gan_optimizer.py",
    ),
}

QUICK = "not slow and not exhaustive"
SLOW = "slow and not exhaustive"
NO_TEST = 5  # exit code of pytest if no test has the mark

OF_ALL_MODULES = ("tests/test_interface.py",)
"""Tests that concern every module."""

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One changed place of a file."""

    file: str
    """Path of the file in the tree."""
    line: int
    """Number of the line, counted from 1."""
    kind: str
    """`comparison`, `operator`, `constant` or `statement`."""
    start: int
    """Position of the replaced text in the file, in bytes."""
    end: int
    """End of the replaced text, in bytes."""
    replacement: str
    """The text that replaces it."""
    identifier: str = ""
    """A name that stays the same if other lines of the file change.

    It consists of the file, and the line before and after the change. If several mutants of a file
    have the same lines, the second one ends in ` (2)`.
    """

    def applied(self, source: bytes) -> bytes:
        """Return the source of the file with this change."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]

    def difference(self, source: bytes) -> str:
        """Return the change as the lines of a unified diff."""
        before = source.decode().splitlines()
        after = self.applied(source).decode().splitlines()
        lines = difflib.unified_diff(before, after, lineterm="", n=0)
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


# === Mutants ===


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Return all mutants of a Python file, in the order of the file."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for kind, node, replacement in _changes(tree):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        mutant = Mutant(file, node.lineno, kind, start, end, replacement)
        changed = mutant.applied(source)
        with contextlib.suppress(SyntaxError):
            if ast.dump(ast.parse(changed)) != ast.dump(tree):
                found.append(mutant)
    found.sort(key=lambda mutant: (mutant.start, mutant.end, mutant.replacement))
    return _with_identifiers(found, source)


def _with_identifiers(mutants: list[Mutant], source: bytes) -> list[Mutant]:
    """Return the mutants of a file with their identifiers."""
    numbers: collections.Counter[str] = collections.Counter()
    named = []
    for mutant in mutants:
        before, after = (
            " ".join(text.decode().splitlines()[mutant.line - 1].split())
            for text in (source, mutant.applied(source))
        )
        identifier = f"{mutant.file}: {before} -> {after}"
        numbers[identifier] += 1
        if numbers[identifier] > 1:
            identifier += f" ({numbers[identifier]})"
        named.append(dataclasses.replace(mutant, identifier=identifier))
    return named


def _changes(tree: ast.Module) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield `(kind, replaced node, replacement)` for each possible change."""
    for node in _without_types(tree):
        if isinstance(node, ast.Compare):
            for position, operation in enumerate(node.ops):
                operations = list(node.ops)
                operations[position] = _COMPARISONS[type(operation)]()
                changed = ast.Compare(node.left, operations, node.comparators)
                yield "comparison", node, f"({ast.unparse(changed)})"
        elif isinstance(node, ast.BinOp) and not _is_text(node):
            changed = ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
            yield "operator", node, f"({ast.unparse(changed)})"
        elif isinstance(node, ast.BoolOp):
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "operator", node, f"({ast.unparse(ast.BoolOp(other, node.values))})"
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
            yield "operator", node, f"({ast.unparse(node.operand)})"
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            yield "constant", node, _other_constant(node.value)
        elif isinstance(node, (ast.AugAssign, ast.Raise)) or _is_call(node):
            yield "statement", node, "pass"


def _without_types(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a tree except annotations of types."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment"):
            continue
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            continue
        for child in value if isinstance(value, list) else [value]:
            # before Python 3.12, the parts of an f-string have no positions of their own
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _without_types(child)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_text(node: ast.BinOp) -> bool:
    """Return whether an operator certainly combines texts or types, not numbers."""
    sides = (node.left, node.right)
    names = ("None", "str", "int", "float", "bool")
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and (side.value is None or isinstance(side.value, str)))
        or (isinstance(node.op, ast.BitOr) and isinstance(side, ast.Name) and side.id in names)
        for side in sides
    )


def _is_call(node: ast.AST) -> bool:
    """Return whether a node is a statement that calls a function and ignores the result."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _other_constant(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return f"({value + 1})"
    return f"({value * 2 or 1.0!r})"


def draw(root: pathlib.Path, package: str, number: int, seed: int) -> list[Mutant]:
    """Draw mutants at random over all modules of a package.

    Args:
        root: Folder of the tree.
        package: Name of the folder of the package in the tree.
        number: Number of mutants.
        seed: Seed of the choice.

    Returns:
        The mutants. A larger number gives the same mutants and more.
    """
    mutants = []
    for path in sorted((root / package).rglob("*.py")):
        mutants += mutants_of(path.relative_to(root).as_posix(), path.read_bytes())
    random.Random(seed).shuffle(mutants)
    return mutants[:number]


# === Tests ===


def tests_of(root: pathlib.Path, file: str) -> tuple[str, ...]:
    """Return the paths of the tests of a module of the package."""
    _, *folders = pathlib.PurePosixPath(file).with_suffix("").parts
    name = folders[0]
    candidates = (f"tests/{name}", f"tests/test_{name.lstrip('_')}.py")
    own = TESTS.get(name) or tuple(path for path in candidates if (root / path).exists())[:1]
    if not own:
        return ("tests",)
    return (*own, *(path for path in OF_ALL_MODULES if (root / path).exists()))


def likeliest_first(root: pathlib.Path, file: str, tests: Sequence[str]) -> list[str]:
    """Return the test files of a module, ordered by how often they use its public names.

    The run of a mutant ends at the first test that fails, so this order saves time.
    """
    tree = ast.parse((root / file).read_bytes())
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in ast.walk(tree) if isinstance(node, kinds)]
    stem = pathlib.PurePosixPath(file).stem.lstrip("_")
    pattern = re.compile(rf"\b(?:{'|'.join([*filter(_is_public, names), stem])})\b")
    found = []
    for path in tests:
        folder = root / path
        found += sorted(folder.rglob("test_*.py")) if folder.is_dir() else [folder]
    found.sort(key=lambda path: -len(pattern.findall(path.read_text(encoding="utf-8"))))
    found.sort(key=lambda path: path.stem != f"test_{stem}")
    return [path.relative_to(root).as_posix() for path in found]


def _is_public(name: str) -> bool:
    return not name.startswith("_")


@dataclasses.dataclass
class Copy:
    """A copy of the tree, in which mutants are tested."""

    root: pathlib.Path
    timeout: float
    """Longest time in seconds for the tests of one mutant."""

    @classmethod
    def of(cls, tree: pathlib.Path, folder: pathlib.Path, timeout: float) -> Copy:
        """Copy the files that git does not ignore, as they are in the checkout."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=tree, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (tree / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, folder / name)
        return cls(folder, timeout)

    def outcome(
        self, tests: Sequence[str], timeout: float | None = None, marks: str = QUICK
    ) -> str:
        """Run the tests with the given marks, and return `passed`, `failed` or `timeout`."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", marks]
        command += ["-p", "no:cacheprovider", *tests]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                code = process.wait(timeout or self.timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return "timeout"
        return "passed" if code in (0, NO_TEST) else "failed"

    def test(self, mutant: Mutant) -> str:
        """Return the outcome of the tests of a mutant. The file is restored afterwards."""
        path = self.root / mutant.file
        source = path.read_bytes()
        try:
            path.write_bytes(mutant.applied(source))
            tests = likeliest_first(self.root, mutant.file, tests_of(self.root, mutant.file))
            quick = self.outcome(tests)
            return self.outcome(tests, marks=SLOW) if quick == "passed" else quick
        finally:
            path.write_bytes(source)


# === The program ===


def read_equivalent(path: pathlib.Path) -> dict[str, str]:
    """Return `{identifier: reason}` of the mutants that compute the same as the original.

    Raises:
        ValueError: If a line has no reason.
    """
    reasons = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if not line.strip() or line.startswith("#"):
            continue
        identifier, _, reason = line.partition("  ")
        if not reason.strip():
            raise ValueError(
                f"Each line of {path} must be an identifier, two spaces and a reason. "
                f"Received: {line!r}."
            )
        reasons[identifier] = reason.strip()
    return reasons


def run(
    tree: pathlib.Path,
    package: str,
    number: int,
    seed: int,
    results: pathlib.Path,
    timeout: float,
    equivalent: pathlib.Path,
) -> dict[str, dict[str, str]]:
    """Test mutants, and return their results by identifier.

    Args:
        tree: Folder of the checkout.
        package: Name of the folder of the package.
        number: Number of mutants.
        seed: Seed of the choice.
        results: File of the results, one JSON object per line. Mutants in this file are not tested
            again.
        timeout: Longest time in seconds for the tests of one mutant.
        equivalent: File of the mutants that are set aside.

    Raises:
        RuntimeError: If tests fail without a mutant.
    """
    set_aside = read_equivalent(equivalent)
    done = {}
    if results.is_file():
        entries = map(json.loads, results.read_text(encoding="utf-8").splitlines())
        done = {entry["mutant"]: entry for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy.of(tree, pathlib.Path(folder), timeout)
        mutants = draw(copy.root, package, number, seed)
        sound = set()
        for mutant in mutants:
            if mutant.identifier in done or mutant.identifier in set_aside:
                continue
            tests = tests_of(copy.root, mutant.file)
            if tests not in sound and copy.outcome(tests, 4 * timeout) != "passed":
                raise RuntimeError(
                    f"The tests {', '.join(tests)} must pass without a mutant. They fail."
                )
            sound.add(tests)
            outcome = copy.test(mutant)
            entry = {
                "mutant": mutant.identifier,
                "kind": mutant.kind,
                "outcome": outcome,
                "difference": mutant.difference((copy.root / mutant.file).read_bytes()),
            }
            done[mutant.identifier] = entry
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            print(f"{outcome:<8} {mutant.file}:{mutant.line}", flush=True)
    drawn = {mutant.identifier for mutant in mutants} - set_aside.keys()
    return {identifier: entry for identifier, entry in done.items() if identifier in drawn}


def report(found: dict[str, dict[str, str]]) -> str:
    """Return the share of caught mutants, and the survivors with their differences."""
    survivors = [entry for entry in found.values() if entry["outcome"] == "passed"]
    caught = len(found) - len(survivors)
    lines = [f"{caught} of {len(found)} mutants were caught."]
    for entry in survivors:
        lines += ["", f"survived: {entry['mutant']}", entry["difference"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, test the mutants, and print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=100, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of mutants")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per mutant")
    parser.add_argument("--tree", type=pathlib.Path, default=ROOT, help="folder of the checkout")
    parser.add_argument("--package", default="keras_gen", help="folder of the package")
    parser.add_argument(
        "--results", type=pathlib.Path, default=pathlib.Path("mutants.jsonl"), help="file to write"
    )
    parser.add_argument(
        "--equivalent", type=pathlib.Path, default=EQUIVALENT, help="mutants that are set aside"
    )
    given = parser.parse_args(arguments)
    found = run(
        given.tree,
        given.package,
        given.number,
        given.seed,
        given.results,
        given.timeout,
        given.equivalent,
    )
    print(report(found))


if __name__ == "__main__":
    main()
