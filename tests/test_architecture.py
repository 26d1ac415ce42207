import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA_ORDER = [
    "errors",
    "i18n",
    "memory",
    "timestamps",
    "checks",
    "tables",
    "files",
    "layouts",
    "synthetic",
    "bars",
    "sample",
    "features",
    "labels",
    "known_optimum",
    "windows",
    "split",
    "store",
    "rows",
    "market",
    "familiar",
    "inference",
    "spans_met",
    "audit",
    "augment",
    "quotas",
    "cycle",
    "pools",
    "sampling",
    "cuts",
    "sequence_plan",
    "generator",
    "batches",
    "sequences",
    "exchange",
]


MAY_IMPORT = {
    "core": {"core"},
    "data": {"data", "core"},
    "models": {"models", "core"},
    "evaluation": {"evaluation", "data", "core"},
    "recipe": {"recipe", "data", "models", "evaluation", "config", "core"},
    "examples": {"data", "models", "recipe"},
    "config.py": {"data"},
    "train_model.py": {"config", "recipe", "models", "data"},
}
OURS = {"config", "train_model", "core", "data", "models", "evaluation", "recipe"}


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
    rooms = ("core", "data", "models", "evaluation", "recipe")
    return [path for room in rooms for path in modules(room)]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_before_it(room):
    paths = [ROOT / room] if room.endswith(".py") else modules(room)
    assert paths
    for path in paths:
        assert roots(path) & OURS <= MAY_IMPORT[room], path


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
def test_a_stage_of_the_data_never_imports_a_later_stage(path):
    assert path.stem in DATA_ORDER
    later = DATA_ORDER[DATA_ORDER.index(path.stem) + 1 :]
    assert not imports(path) & {f"data.{name}" for name in later}


@pytest.mark.parametrize("path", modules("data"), ids=lambda p: p.stem)
def test_only_the_batches_import_keras(path):
    uses = roots(path) & {"keras", "tensorflow"}
    assert not uses or path.stem in ("batches", "sequences")


@pytest.mark.parametrize("path", modules("models"), ids=lambda p: p.stem)
def test_a_backend_is_imported_only_in_the_recurrence(path):
    uses = roots(path) & {"tensorflow", "jax", "torch"}
    assert not uses or path.stem == "recurrence"


def test_the_example_without_keras_needs_the_data_alone():
    served = roots(ROOT / "examples" / "serve_onnx.py")
    assert served & (OURS | {"keras", "tensorflow"}) == {"data"}


def test_only_the_queue_of_studies_knows_optuna():
    for path in library():
        assert (
            "optuna" not in roots(path)
            or path.relative_to(ROOT).as_posix() == "recipe/study/queue.py"
        )


def test_every_module_starts_with_its_purpose():
    for path in [*library(), *ROOT.glob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path.name


def test_importing_the_config_prints_nothing_and_creates_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import config"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
