import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA_ORDER = [
    "memory",
    "bars",
    "sample",
    "synthetic",
    "features",
    "labels",
    "windows",
    "split",
    "store",
    "rows",
    "market",
    "audit",
    "augment",
    "quotas",
    "sampling",
    "batches",
]


def modules(folder):
    return sorted(path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py")


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


@pytest.mark.parametrize("path", modules("data") + modules("models"), ids=lambda p: p.stem)
def test_library_code_never_imports_the_config_or_the_other_package(path):
    other = "models" if path.parent.name == "data" else "data"
    roots = {name.partition(".")[0] for name in imports(path)}
    assert not roots & {"config", "train_model", "recipe", other}


@pytest.mark.parametrize("path", modules("data"), ids=lambda p: p.stem)
def test_a_stage_of_the_data_never_imports_a_later_stage(path):
    assert path.stem in DATA_ORDER
    later = DATA_ORDER[DATA_ORDER.index(path.stem) + 1 :]
    assert not imports(path) & {f"data.{name}" for name in later}


@pytest.mark.parametrize("path", modules("data"), ids=lambda p: p.stem)
def test_only_the_batches_import_keras(path):
    uses = {name.partition(".")[0] for name in imports(path)} & {"keras", "tensorflow"}
    assert not uses or path.stem == "batches"


@pytest.mark.parametrize("path", modules("models"), ids=lambda p: p.stem)
def test_a_backend_is_imported_only_in_the_recurrence(path):
    uses = {name.partition(".")[0] for name in imports(path)} & {"tensorflow", "jax", "torch"}
    assert not uses or path.stem == "recurrence"


@pytest.mark.parametrize("path", modules("recipe"), ids=lambda p: p.stem)
def test_the_recipe_gets_its_flags_as_arguments(path):
    assert not {name.partition(".")[0] for name in imports(path)} & {"config", "train_model"}


def test_every_module_starts_with_its_purpose():
    for path in [*modules("data"), *modules("models"), *modules("recipe"), *ROOT.glob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path.name


def test_importing_the_config_prints_nothing_and_creates_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import config"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
