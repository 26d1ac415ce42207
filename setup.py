"""Builds the wheel, in which all modules are in one package.

The names of the checkout, such as config and data, would collide with those of whoever installs it;
a checkout, and an editable install of it, keeps them. pyproject.toml says everything else.
"""

import ast
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PACKAGE = "xlstm_classifier"
MODULES = ("config", "train_model", "core", "data", "evaluation", "models", "recipe")


class BuildOnePackage(build_py):
    """Moves what was built into the package, and has its imports say so."""

    def run(self):
        """Builds; an editable install is left as the checkout is."""
        super().run()
        if self.editable_mode:
            return
        built = Path(self.build_lib)
        shutil.rmtree(built / PACKAGE / "__pycache__", ignore_errors=True)
        for name in MODULES:
            for path in filter(Path.exists, (built / name, built / f"{name}.py")):
                new = built / PACKAGE / path.name
                if new.is_dir():  # of an earlier build
                    shutil.rmtree(new)
                path.replace(new)
        for path in (built / PACKAGE).rglob("*.py"):
            path.write_text(moved(path.read_text(encoding="utf-8")), encoding="utf-8")


class OnePackageWheel(bdist_wheel):
    """Says in the wheel what there is to import of it."""

    def egg2dist(self, egginfo_path, distinfo_path):
        """Writes the metadata."""
        super().egg2dist(egginfo_path, distinfo_path)
        Path(distinfo_path, "top_level.txt").write_text(f"{PACKAGE}\n")


def moved(text: str) -> str:
    """Returns the text of a module whose imports of `MODULES` find them in the package."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            before, names = "from ", [node.module or ""]
            after = f"from {PACKAGE}."
        elif isinstance(node, ast.Import):
            before, names = "import ", [alias.name for alias in node.names]
            after = f"from {PACKAGE} import "
        else:
            continue
        if not any(name.partition(".")[0] in MODULES for name in names):
            continue
        if before == "import " and (len(names) > 1 or "." in names[0]):
            raise ValueError(f"cannot be moved: {ast.unparse(node)}")
        line, start = lines[node.lineno - 1], node.col_offset
        lines[node.lineno - 1] = line[:start] + line[start:].replace(before, after, 1)
    return "".join(lines)


setup(cmdclass={"build_py": BuildOnePackage, "bdist_wheel": OnePackageWheel})
