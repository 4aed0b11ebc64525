"""What a protected machine carries runs with any Python from 3.9 on."""

import ast
from pathlib import Path

import pytest

import recovery_store

_ROOT = Path(recovery_store.__file__).parent
CARRIED = [_ROOT / "__init__.py", _ROOT / "errors.py", *sorted(_ROOT.glob("vmdk/*.py"))]


@pytest.mark.parametrize("path", CARRIED, ids=lambda path: path.name)
def test_a_carried_file_is_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    has_annotations = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for name in node.names
    }
    assert not has_annotations or "annotations" in imported
    # Keywords that later versions brought: dataclass(slots=), zip(strict=), …
    later = {"slots", "kw_only", "strict"}
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not keywords & later


@pytest.mark.parametrize("path", CARRIED, ids=lambda path: path.name)
def test_a_carried_file_imports_only_what_is_carried(path: Path) -> None:
    allowed = {"isal", "blake3", "__future__"}
    standard = {
        *("array", "bisect", "collections", "collections.abc", "concurrent.futures", "errno"),
        *("functools", "heapq", "itertools", "operator", "os", "pathlib", "re", "stat", "struct"),
        *("sys", "threading", "types", "typing", "zlib"),
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= allowed | standard
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module in allowed | standard
        elif isinstance(node, ast.ImportFrom):
            carried = {"errors"} if node.level == 2 else {each.stem for each in CARRIED}
            assert node.module in carried
