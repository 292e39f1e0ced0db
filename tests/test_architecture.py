"""The floors of the package and the sizes of its files and functions, read from the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "semflow"
FLOORS = (
    {"records", "config", "utils"}, {"geometry"}, {"encoders", "fields"}, {"models"}, {"rendering"},
    {"losses", "metrics"}, {"data"}, {"engine", "viz"}, {"tasks"}, {"cli"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LONGEST_FILE, LONGEST_FUNCTION = 350, 60


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imported_parts(node: ast.AST) -> set[str]:
    """Parts of the package that a file imports when it runs, wherever in it."""
    if is_for_types_only(node):
        return set()
    names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
    names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    found = {name.split(".")[1] for name in names if name.startswith("semflow.")}
    return found.union(*(imported_parts(child) for child in ast.iter_child_nodes(node)))


def test_every_part_has_a_floor():
    assert {part_of(path) for path in FILES} == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_come_from_the_same_floor_or_below(path):
    floor = FLOOR[part_of(path)]
    imported = imported_parts(ast.parse(path.read_text(encoding="utf-8")))
    assert {part for part in imported if FLOOR[part] > floor} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST_FILE
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {function.name: function.end_lineno - function.lineno + 1 for function in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_an_import_from_above_is_found():
    source = """
def late():
    from semflow.cli.main import main
if TYPE_CHECKING:
    from semflow.engine import trainer
import semflow.data.maps
"""
    assert imported_parts(ast.parse(source)) == {"cli", "data"}
