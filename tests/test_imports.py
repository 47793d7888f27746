"""The architecture: imports run one way, and only `finalize` can read the test set.

Nothing uses private names of a dependency: imports are checked here, attributes by ruff (SLF).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each layer may import itself and those before it. "command" is any module directly in `search`,
# and the `__main__` of a package; nothing imports a command.
LAYERS = (
    "data",
    "models",
    "search.spec",
    "search.training",
    "search.store",
    "search.sampling",
    "search.analysis",
    "search.figures",
    "search.terminal",
    "search.pages",
    "search.dashboard",
    "search.running",
    "search.final",
    "command",
)
ALLOWED = {layer: set(LAYERS[: place + 1]) - {"command"} for place, layer in enumerate(LAYERS)}
ALLOWED["models"] = {"models"}
ALLOWED["search.studies"] = set()
MOST_FILES, MOST_LINES = 12, 300
OURS = {"data", "models", "search", "benchmarks", "tests"}


def sources() -> Iterator[Path]:
    for package in ("data", "models", "search"):
        yield from sorted(
            path for path in (ROOT / package).rglob("*.py") if "raw" not in path.parts
        )


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "command"
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
            parts = [*module.split("."), *names]
            private = [part for part in parts if part.startswith("_") and part != "__future__"]
            assert not private, f"{name} imports {module}"
            continue
        targets = [f"{module}.{item}" for item in names] if module == "search" else [module]
        for target in targets:
            assert layer(target) in allowed, f"{name} imports {target}"


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_finalize_reads_test_data(path: Path) -> None:
    if path == ROOT / "search" / "final" / "scoring.py" or ROOT / "data" in path.parents:
        return
    tree = ast.parse(path.read_text())
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {item for _, names in imported(path) for item in names}
    named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "load_test" not in named


def test_only_finalise_scores_on_test_data() -> None:
    """Only its command and the package's public names lead to it."""
    importers: dict[str, set[str]] = {
        "search.final.scoring": set(),
        "search.final.final": set(),
    }
    for path in sources():
        for module, _ in imported(path):
            if module in importers:
                importers[module].add(module_name(path))
    assert importers["search.final.scoring"] == {"search.final.final"}
    assert importers["search.final.final"] == {"search", "search.finalize"}


def test_search_holds_only_commands() -> None:
    for path in (ROOT / "search").glob("*.py"):
        if path.name != "__init__.py":
            assert 'if __name__ == "__main__":' in path.read_text(), f"{path} is no command"


def test_folders_and_files_stay_small() -> None:
    by_folder: dict[Path, list[Path]] = {}
    for path in sources():
        by_folder.setdefault(path.parent, []).append(path)
    for folder, files in by_folder.items():
        assert len(files) <= MOST_FILES, folder
        for path in files:
            assert len(path.read_text().splitlines()) <= MOST_LINES, path
