import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LIBRARY = (
    "core",
    "data.times",
    "data.bars",
    "data.features",
    "data.market",
    "data.audit",
    "data.batches",
    "models",
    "evaluation",
)
# What a room may import, beside itself: what comes before it as the data flows.
ROOMS = {
    "core": set(),
    "data.times": {"core"},
    "data.bars": {"core", "data.times"},
    "data.features": {"core", "data.times", "data.bars"},
    "data.market": {"core", "data.times", "data.bars", "data.features"},
    "data.audit": {"core", "data.times", "data.bars", "data.features", "data.market"},
    "data.batches": {"core", "data.market"},
    "models": {"core"},
    "evaluation": {"core", "data.times", "data.bars", "data.market"},
    "recipe.devices": {"core"},
    "recipe.run": {*LIBRARY, "recipe.devices", "config"},
    "recipe.serve": {*LIBRARY, "recipe.run"},
    "recipe.retrain": {*LIBRARY, "recipe.run", "config"},
    "recipe.live": {*LIBRARY, "recipe.run", "recipe.serve"},
    "recipe.study": {*LIBRARY, "recipe.run", "config"},
    "recipe.cli": {
        *LIBRARY,
        *("recipe.devices", "recipe.run", "recipe.retrain", "recipe.serve"),
        *("recipe.live", "recipe.study"),
        "config",
    },
    "xlstm_classifier": {
        *LIBRARY,
        *("recipe.run", "recipe.serve", "recipe.cli", "config", "train_model"),
    },
}
SCRIPTS = {
    "config.py": {"core"},
    "train_model.py": {"core", "config", "recipe.cli", "recipe.run", "data.batches"},
    "examples/serve_onnx.py": {"core", "data.times", "data.bars", "data.features", "recipe.serve"},
    "examples/freqtrade_strategy.py": {
        "core",
        "data.times",
        "data.bars",
        "data.features",
        "models",
        "recipe.serve",
    },
}
# The rooms of models/, each of which may import those before it; the public names stand on top.
MODELS = (
    "models.layers",
    "models",
    "models.training",
    "models.training.callbacks",
    "models.xlstm_rl_model",
)
MOST_FILES = 12  # in a room
MOST_WITH_FLAGS = 25  # functions that the flags pass through
# They speak where nobody else can: native code failed, or the process is about to be ended.
LAST_WORDS = ("native_chatter", "processes")
OURS = {"config", "train_model", "core", "data", "models", "evaluation", "recipe"}
OURS |= {"xlstm_classifier"}


def modules(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py")


def imports(path):
    """Returns every dotted name that the file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(path):
    """Returns the first words of what the file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def library():
    rooms = ("core", "data", "models", "evaluation", "recipe", "xlstm_classifier")
    return [path for room in rooms for path in modules(room)]


def rooms_of(path):
    """Returns the rooms of this project that the file imports."""
    names = {name for name in imports(path) if name.partition(".")[0] in OURS}
    rooms = {room for room in ROOMS for name in names if f"{name}.".startswith(f"{room}.")}
    return rooms | names & {"config", "train_model"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_before_it(room):
    paths = modules(room.replace(".", "/"))
    assert paths
    for path in paths:
        assert rooms_of(path) <= ROOMS[room] | {room}, path


def room_of(module):
    """Returns the folder of a module, with dots; the public names of models/ are their own room."""
    return module if module in MODELS else module.rpartition(".")[0]


def imported_rooms():
    """Returns the rooms that each room of the library imports."""
    paths = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in library()}
    found = {}
    for module, path in paths.items():
        others = {room_of(name) for name in imports(path) if name in paths}
        found.setdefault(room_of(module), set()).update(others - {room_of(module)})
    return found


def test_no_rooms_import_each_other_in_a_circle():
    assert list(graphlib.TopologicalSorter(imported_rooms()).static_order())


def test_a_room_of_models_imports_only_those_before_it():
    for room, others in imported_rooms().items():
        if room in MODELS:
            before = set(MODELS[: MODELS.index(room)])
            assert {other for other in others if other in MODELS} <= before, room


def test_the_flags_pass_through_few_functions():
    functions = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for folder in (*LIBRARY, "recipe", "tests", "benchmarks", "examples")
        for path in [*modules(folder.replace(".", "/")), ROOT / "config.py"]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and "flags" in {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
    ]
    assert 0 < len(set(functions)) <= MOST_WITH_FLAGS, sorted(set(functions))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_only_the_rooms_that_it_needs(script):
    assert rooms_of(ROOT / script) <= SCRIPTS[script]


def test_every_module_has_a_room_and_no_room_has_too_many():
    counts = Counter(path.parent for path in library())
    assert max(counts.values()) <= MOST_FILES, counts
    assert {path.name for path in (ROOT / "data").iterdir() if path.suffix == ".py"} == {
        "__init__.py"
    }


@pytest.mark.parametrize("path", library(), ids=lambda p: p.stem)
def test_only_the_command_line_prints(path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in called or path.parent.name == "cli" or path.stem in LAST_WORDS


def test_layers_and_training_do_not_import_each_other():
    for here, other in [("layers", "training"), ("training", "layers")]:
        for path in modules(f"models/{here}"):
            assert not [name for name in imports(path) if name.startswith(f"models.{other}")], path


def test_nobody_in_models_imports_the_builder():
    for path in modules("models"):
        assert "models.xlstm_rl_model" not in imports(path), path


def test_the_evaluation_needs_no_keras():
    for path in modules("evaluation"):
        assert not roots(path) & {"keras", "tensorflow"}, path


@pytest.mark.parametrize("path", modules("data"), ids=lambda p: p.stem)
def test_only_the_batches_import_keras(path):
    uses = roots(path) & {"keras", "tensorflow"}
    assert not uses or path.stem in ("datasets", "sequences")


@pytest.mark.parametrize("path", modules("models"), ids=lambda p: p.stem)
def test_a_backend_is_imported_only_in_the_recurrence(path):
    uses = roots(path) & {"tensorflow", "jax", "torch"}
    assert not uses or path.stem == "recurrence"


def test_the_example_without_keras_needs_the_data_alone():
    for path in [ROOT / "examples/serve_onnx.py", ROOT / "recipe/serve/inference.py"]:
        assert not roots(path) & {"keras", "tensorflow", "models", "evaluation", "config"}


def test_only_the_trials_of_studies_know_optuna():
    for path in library():
        assert (
            "optuna" not in roots(path)
            or path.relative_to(ROOT).as_posix() == "recipe/study/trials.py"
        )


def test_every_module_starts_with_its_purpose():
    for path in [*library(), *ROOT.glob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path.name


def test_importing_the_config_prints_nothing_and_creates_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import config"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
