"""Who may import whom: the plan of the house, held by walking the imports."""

import ast
from pathlib import Path

from tests.conftest import ROOT

ROOMS = {"models", "data", "utils", "model_zoo", "main_train_student", "main_test_swinir"}
MAY_IMPORT = {
    "main_train_student": {"models", "data", "utils"},
    "main_test_swinir": {"models", "data", "utils", "model_zoo"},
    "models": {"models", "utils"},
    "data": {"data", "utils"},
    "model_zoo": {"utils"},
    "utils": {"utils"},
}
# A command line stands above its room, as main_* do; nothing imports it.
COMMANDS = {"utils.export": {"models", "utils"}}
# Within a room: the networks and losses know nothing of training.
LEAVES = {"models.network_swinir", "models.network_swinir_student", "models.swin_transformer", "models.losses"}
MAY_IMPORT_MODULES = dict.fromkeys(LEAVES, LEAVES) | {
    "models.distillation": {"models.losses"},
    "models.spandrel_teacher": {"models.network_swinir", "utils.errors"},
}


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, as `room.module`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if (ROOT / Path(*name.split("."))).with_suffix(".py").exists()}
            names |= modules or {node.module}
    return {name for name in names if name.split(".")[0] in ROOMS}


def sources() -> dict[str, set[str]]:
    """Every module outside the tests, with what it imports."""
    files = [path for room in sorted(ROOMS) for path in [*(ROOT / room).rglob("*.py"), ROOT / f"{room}.py"]]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path) for path in files if path.exists()}


def test_rooms_import_only_what_stands_below_them() -> None:
    modules = sources()
    assert len(modules) > 20
    for module, imported in modules.items():
        allowed = COMMANDS.get(module) or MAY_IMPORT[module.split(".")[0]]
        assert {name.split(".")[0] for name in imported} <= allowed, module
        assert not imported & COMMANDS.keys(), module


def test_networks_and_losses_know_nothing_of_training() -> None:
    modules = sources()
    for module, allowed in MAY_IMPORT_MODULES.items():
        assert modules[module] <= allowed, module


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = sources()

    def reachable(module: str, seen: set[str]) -> set[str]:
        for name in modules.get(module, set()) - seen:
            seen.add(name)
            reachable(name, seen)
        return seen

    for module in modules:
        assert module not in reachable(module, set()), module
