"""Who may import whom: the plan of docs/architecture.md, held by walking the imports."""

import ast
from pathlib import Path

from tests.conftest import ROOT

NETWORKS = ("network_swinir", "network_swinir_student", "swin_transformer", "memory", "attention")
MOVED = ("utils.export", "utils.option_reference", "models.summary", "models.translator_study")  # to other names
# Each room, from the bottom up, and what it may import beside itself. A file of its own is a room, too.
PLAN: dict[str, set[str]] = {
    "utils.process": set(),
    "utils.tables": set(),
    "utils.weights": {"utils.process"},
    "utils.download": {"utils.process"},
    "utils.options": {"utils.process"},
    "utils.imaging": {"utils.process", "utils.options"},
    "utils.evaluation": {"utils.process", "utils.tables", "utils.imaging"},
    "utils.runs": {"utils.process", "utils.options", "utils.weights", "utils.evaluation"},
    "utils.report": {
        *("utils.process", "utils.tables", "utils.options", "utils.imaging", "utils.evaluation", "utils.runs"),
    },
    "model_zoo": {"utils.process", "utils.download"},
    "data.folders": {"utils.process", "utils.options", "utils.imaging"},
    "data.stores": {"data.folders", "utils.process", "utils.imaging"},
    "data": {
        *("data.folders", "data.stores"),
        *("utils.process", "utils.options", "utils.imaging", "utils.evaluation", "utils.download"),
    },
    **{f"models.{network}": {f"models.{other}" for other in NETWORKS} for network in NETWORKS},
    "models.distillation.spandrel_teacher": {"models.network_swinir", "utils.process", "utils.weights"},
    "models.distillation": {
        *("models.network_swinir", "models.distillation.spandrel_teacher", "utils.process", "utils.options"),
    },
    "models": {
        *(f"models.{network}" for network in NETWORKS),
        "models.distillation",
        *("utils.process", "utils.weights", "utils.options", "utils.imaging", "utils.evaluation", "utils.runs"),
    },
    "models.inspect": {"models", "models.distillation", "models.network_swinir", "utils"},
    "models.training": {"models", "models.inspect", "utils"},
    "models.export": {"models", "models.inspect", "models.network_swinir", "utils"},
    **{command: {"utils.process"} for command in MOVED},
    "utils.commands": set(),  # it names what it runs
    "main_train_student": {"models", "data", "utils"},
    "main_test_swinir": {"models", "data", "model_zoo", "utils"},
}
TOP = {room.partition(".")[0] for room in PLAN}


def prefixes(module: str) -> list[str]:
    """A module and the rooms that it lies in, the innermost first."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def room_of(module: str) -> str:
    """The innermost room that a module lies in."""
    return next(prefix for prefix in prefixes(module) if prefix in PLAN)


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, in functions and for annotations, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()}
            names |= modules or {node.module}
    return {name for name in names if name.split(".")[0] in TOP}


def sources() -> dict[str, set[str]]:
    """Every module outside the tests, with what it imports."""
    files = [path for top in sorted(TOP) for path in [*(ROOT / top).rglob("*.py"), ROOT / f"{top}.py"]]
    files = [path for path in files if path.name != "__init__.py"]  # which have nothing but a docstring
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path) for path in files if path.exists()}


def test_rooms_import_only_what_the_plan_lets_them() -> None:
    modules = sources()
    assert len(modules) > 60
    for module, imported in modules.items():
        room = room_of(module)
        for name in imported:
            assert room_of(name) == room or PLAN[room] & set(prefixes(name)), f"{module} imports {name}"


def test_the_plan_has_no_circles() -> None:
    modules = sources()

    def reachable(module: str, seen: set[str]) -> set[str]:
        for name in modules.get(module, set()) - seen:
            seen.add(name)
            reachable(name, seen)
        return seen

    for module in modules:
        assert module not in reachable(module, set()), module


def test_rooms_are_small_and_drawn() -> None:
    """A room of more than about ten files is two rooms."""
    for folder in {path.parent for top in ("models", "data", "utils") for path in (ROOT / top).rglob("*.py")}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 11, folder
    for path in (path for top in ("models", "data", "utils") for path in (ROOT / top).rglob("*.py")):
        assert path.read_text(encoding="utf-8").count("\n") <= 350, path
