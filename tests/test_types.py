"""Annotations and line lengths. Whether the annotations are correct, mypy checks in .ci/run."""

import ast
import pathlib
import unicodedata

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "keras_gen").rglob("*.py"))
MAX_LENGTH = 100


def unannotated(source):
    """Return all functions with a missing annotation, and the names of what lacks one.

    The rule is that of mypy's `disallow_untyped_defs`. Private and nested functions are included;
    `self`, `cls` and lambdas need no annotation.

    Args:
        source: Python source code.
    """
    tree = ast.parse(source)
    bound = set()  # methods, whose first parameter is `self` or `cls`
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bound.update(child for child in node.body if not is_static(child))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            positional = arguments.posonlyargs + arguments.args
            if node in bound:
                positional = positional[1:]
            others = [*arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            parameters = positional + [each for each in others if each is not None]
            missing = [each.arg for each in parameters if each.annotation is None]
            if node.returns is None:
                missing.append("return")
            if missing:
                found[f"{node.name} in line {node.lineno}"] = missing
    return found


def is_static(node):
    """Return whether a function is a static method."""
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in decorators)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_function_is_annotated(path):
    assert unannotated(path.read_text()) == {}


def test_the_search_finds_methods_private_and_nested_functions():
    source = """
def plain(x: int, y, *args: int, z, **kwargs) -> int:
    def _nested(x: int): ...

class Private:
    def __init__(self): ...
    def method(self, /, x: int, *args) -> int: ...
    @staticmethod
    def static(x) -> int: ...
    @property
    def annotated(self) -> int: ...
    async def awaited(self, x: int): ...

    class Inner:
        @classmethod
        def annotated(cls, *, x: int) -> int: return lambda y: y
"""
    assert unannotated(source) == {
        "plain in line 2": ["y", "z", "kwargs"],
        "_nested in line 3": ["return"],
        "__init__ in line 6": ["return"],
        "method in line 7": ["args"],
        "static in line 9": ["x"],
        "awaited in line 12": ["return"],
    }


def width(line):
    """Return the number of characters as ruff counts them: x̂ is one, though it has two parts."""
    return sum(not unicodedata.combining(char) for char in line)


def test_no_line_is_longer_than_100_characters():
    long_lines = []
    for folder in ("keras_gen", "tests", "scripts", "tools", "benchmarks", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT)
            if name.is_relative_to("docs/gallery"):  # Sphinx copies the tutorials there
                continue
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                if width(line) > MAX_LENGTH:
                    long_lines.append(f"{name}:{number} has {width(line)} characters")
    assert not long_lines, "\n".join(long_lines)
