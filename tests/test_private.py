"""Private names of dependencies that the product uses: a new one fails here, or gives a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# (file, name): why it is needed. At most five.
ALLOWED: dict[tuple[str, str], str] = {}
MOST = 5
OURS = ("data", "models", "search")
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}  # public all the same
OPTUNAS = {"_study_id", "_trial_id", "_storage"}  # also where a name of ours is the same


def sources() -> Iterator[Path]:
    for package in OURS:
        yield from (path for path in (ROOT / package).rglob("*.py") if "raw" not in path.parts)


def own_names() -> set[str]:
    """Private names that our own modules define: functions, classes, methods, attributes."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    found.add(name)
    return found


def private_uses(path: Path, ours: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=receiver, attr=name) if is_private(name):
                is_own = isinstance(receiver, ast.Name) and receiver.id in ("self", "cls")
                if name not in ours or (name in OPTUNAS and not is_own):
                    yield name
            case ast.ImportFrom(module=module, names=names) if module:
                parts = [*module.split("."), *(alias.name for alias in names)]
                if parts[0] not in OURS:
                    yield from (part for part in parts if is_private(part))
            case ast.Import(names=names):
                yield from (p for alias in names for p in alias.name.split(".") if is_private(p))
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]
            ) if is_private(name) and name not in ours:
                yield name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def test_private_names_of_dependencies_are_listed() -> None:
    ours = own_names()
    used = {
        (str(path.relative_to(ROOT)), name)
        for path in sources()
        for name in private_uses(path, ours)
    }
    assert used == set(ALLOWED)
    assert len(ALLOWED) <= MOST


def test_a_private_name_would_be_seen(tmp_path: Path) -> None:
    for text in (
        "study._storage",
        "from optuna.samplers._tpe import sampler",
        "import torch._dynamo",
        "getattr(trial, '_cached_frozen_trial')",
    ):
        (tmp_path / "source.py").write_text(text)
        assert list(private_uses(tmp_path / "source.py", {"_storage"})), text
