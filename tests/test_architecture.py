"""The house rules that can be read from the source: floors, sizes, documentation, devices."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("records", "config", "utils"), ("geometry",), ("encoders", "fields"), ("models",), ("rendering",),
    ("losses", "metrics"), ("data",), ("engine", "viz"), ("tasks",), ("cli",),
)
FLOOR_OF = {package: number for number, packages in enumerate(FLOORS) for package in packages}
MODULES = sorted((ROOT / "semflow").rglob("*.py"))
MAX_FILE, MAX_FUNCTION, MAX_TEST_FILE, UNDOCUMENTED = 350, 60, 700, 6
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT_TOKENS = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "semflow").parts[0].removesuffix(".py")


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(node: ast.AST, path: Path) -> set[str]:
    """Packages of semflow that a module imports when it runs, in functions too."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if only_for_types(child):
            continue
        if isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{name_of(path)}: relative import in line {child.lineno}"
            top = child.module == "semflow"
            names = [f"semflow.{alias.name}" if top else child.module for alias in child.names]
        elif isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        else:
            found |= imports(child, path)
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("semflow.")} & set(FLOOR_OF)
    return found


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: not blank, no comment, no docstring."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT_TOKENS:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def public_functions(tree: ast.Module):
    """Functions of a module and methods of its classes that others call; not what is nested in functions."""
    for node in tree.body:
        for item in node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]:
            if isinstance(item, FUNCTIONS) and not item.name.startswith("_"):
                yield item


def test_there_is_something_to_check():
    assert len(MODULES) > 60
    assert {package_of(path) for path in MODULES} - {"__init__"} <= set(FLOOR_OF)
    example = "import semflow.cli.main\nfrom semflow import data\ndef f():\n    from semflow.engine.x import y"
    reads = imports(ast.parse(example), ROOT)
    assert reads == {"cli", "data", "engine"}
    source = 'def f():\n    """Doc."""\n    # comment\n\n    return (\n        1)\n'
    assert code_lines(source) == {1, 5, 6}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_import_only_from_their_own_floor_and_below(path):
    if path.parent.name == "semflow" and path.stem == "__init__":
        return
    floor = FLOOR_OF[package_of(path)]
    higher = {name for name in imports(ast.parse(path.read_text()), path) if FLOOR_OF[name] > floor}
    assert not higher, f"{name_of(path)} is on floor {FLOORS[floor]} and imports {sorted(higher)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short_and_documented(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert len(source.splitlines()) <= MAX_FILE
    assert ast.get_docstring(tree) or not tree.body, f"{name_of(path)} does not say what it is for"
    lines = code_lines(source)
    long = [node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS)
            and len(lines & set(range(node.lineno, node.end_lineno + 1))) > MAX_FUNCTION]
    assert not long, f"longer than {MAX_FUNCTION} lines of code: {long}"
    silent = [item.name for item in public_functions(tree)
              if item.end_lineno - item.lineno + 1 > UNDOCUMENTED and ast.get_docstring(item) is None]
    assert not silent, f"without a docstring: {silent}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_devices_are_never_named_and_errors_never_swallowed(path):
    for node in ast.walk(ast.parse(path.read_text())):
        calls_cuda = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"
        assert not calls_cuda, f"{name_of(path)}:{node.lineno}: .cuda(): use .to(device)"
        bare = isinstance(node, ast.ExceptHandler) and node.type is None
        assert not bare, f"{name_of(path)}:{node.lineno}: bare except"


def test_test_files_are_short_and_their_names_differ():
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert not [name_of(path) for path in files if len(path.read_text().splitlines()) > MAX_TEST_FILE]
    names = [path.name for path in files]
    assert len(names) == len(set(names))
    assert not [name for name in names if name == "__init__.py"]
