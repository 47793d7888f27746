"""The architecture: imports run one way, and only `finalize` can read the test set.

Nothing uses private names of a dependency: imports are checked here, attributes by ruff (SLF).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [
    path
    for package in ("data", "models", "search")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "raw" not in path.parts
]
NODES = {module_name(path): [*ast.walk(ast.parse(path.read_text()))] for path in FILES}


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "command"
    if parts[0] != "search":
        return parts[0]
    if len(parts) > 1 and (ROOT / "search" / parts[1]).is_dir():
        return f"search.{parts[1]}"
    return "command"


def imported(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) of each import, also those inside functions."""
    for node in NODES[name]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            yield node.module or "", tuple(alias.name for alias in node.names)


def test_imports_run_one_way() -> None:
    for name in NODES.keys() - {"search"}:
        allowed = ALLOWED[layer(name)]
        for module, names in imported(name):
            if module.split(".")[0] not in OURS:
                parts = [*module.split("."), *names]
                private = [part for part in parts if part.startswith("_") and part != "__future__"]
                assert not private, f"{name} imports {module}"
                continue
            targets = [f"{module}.{item}" for item in names] if module == "search" else [module]
            for target in targets:
                assert layer(target) in allowed, f"{name} imports {target}"


def test_only_finalize_reads_test_data() -> None:
    for name, nodes in NODES.items():
        if name == "search.final.scoring" or layer(name) == "data":
            continue
        named = {node.id for node in nodes if isinstance(node, ast.Name)}
        named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        named |= {item for _, names in imported(name) for item in names}
        named |= {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert "load_test" not in named, name


def test_only_finalise_scores_on_test_data() -> None:
    """Only its command and the package's public names lead to it."""

    def importers(target: str) -> set[str]:
        return {name for name in NODES for module, _ in imported(name) if module == target}

    assert importers("search.final.scoring") == {"search.final.final"}
    assert importers("search.final.final") == {"search", "search.finalize"}


def test_search_holds_only_commands() -> None:
    for path in (ROOT / "search").glob("*.py"):
        if path.name != "__init__.py":
            assert 'if __name__ == "__main__":' in path.read_text(), f"{path} is no command"


def test_folders_and_files_stay_small() -> None:
    for path in FILES:
        assert len([it for it in FILES if it.parent == path.parent]) <= MOST_FILES, path.parent
        assert len(path.read_text().splitlines()) <= MOST_LINES, path
