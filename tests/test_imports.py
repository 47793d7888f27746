"""The architecture: imports run one way, and only `finalize` can read the test set."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each layer may import itself and the layers named here. "command" is any module directly in
# `search`; nothing imports a command.
ALLOWED = {
    "data": {"data"},
    "models": {"models"},
    "search.training": {"search.training", "data", "models"},
    "search.trials": {"search.trials", "search.training", "data", "models"},
    "search.reporting": {
        "search.reporting",
        "search.trials",
        "search.training",
        "data",
        "models",
    },
    "search.serving": {"search.serving", "search.trials"},
    "search.running": {
        "search.running",
        "search.reporting",
        "search.trials",
        "search.training",
        "data",
        "models",
    },
    "search.studies": set(),
    "command": {
        "search.running",
        "search.reporting",
        "search.serving",
        "search.trials",
        "search.training",
        "data",
        "models",
    },
}
OURS = {"data", "models", "search", "benchmarks", "tests"}


def sources() -> Iterator[Path]:
    for package in ("data", "models", "search"):
        yield from sorted(
            path for path in (ROOT / package).rglob("*.py") if "raw" not in path.parts
        )


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "search":
        return parts[0]
    if len(parts) > 1 and (ROOT / "search" / parts[1]).is_dir():
        return f"search.{parts[1]}"
    return "command"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) of each import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or "", tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    name = module_name(path)
    if name == "search":
        return
    allowed = ALLOWED[layer(name)]
    for module, names in imported(path):
        if module.split(".")[0] not in OURS:
            continue
        targets = [f"{module}.{item}" for item in names] if module == "search" else [module]
        for target in targets:
            assert layer(target) in allowed, f"{name} imports {target}"


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_finalize_reads_test_data(path: Path) -> None:
    if path == ROOT / "search" / "running" / "scoring.py" or path.parent == ROOT / "data":
        return
    tree = ast.parse(path.read_text())
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {item for _, names in imported(path) for item in names}
    named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "load_test" not in named


def test_only_finalise_scores_on_it() -> None:
    """And nothing but its command and the package's public names lead to it."""
    importers: dict[str, set[str]] = {
        "search.running.scoring": set(),
        "search.running.final": set(),
    }
    for path in sources():
        for module, _ in imported(path):
            if module in importers:
                importers[module].add(module_name(path))
    assert importers["search.running.scoring"] == {"search.running.final"}
    assert importers["search.running.final"] == {"search", "search.finalize"}


def test_search_holds_only_commands() -> None:
    for path in (ROOT / "search").glob("*.py"):
        if path.name != "__init__.py":
            assert 'if __name__ == "__main__":' in path.read_text(), f"{path} is no command"
