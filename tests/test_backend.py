import importlib.metadata
import os

import pytest

from recipe.cli import backend


@pytest.fixture
def set_flags(monkeypatch):
    """Returns what sets the compiler's flags for a backend and a version of TensorFlow."""

    def flags_for(name, version):
        def found(package):
            if version is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return version

        monkeypatch.setattr(importlib.metadata, "version", found)
        monkeypatch.setenv("KERAS_BACKEND", name)
        monkeypatch.setenv("XLA_FLAGS", "")  # so that it is put back as it was
        monkeypatch.delenv("XLA_FLAGS")
        backend.prepare_process()
        return os.environ["XLA_FLAGS"].split()

    return flags_for


def test_a_flag_that_ends_versions_without_it_is_set_only_where_it_was_tried(set_flags):
    of_tried = [backend.COMPILER, backend.OLDER_EMITTERS, backend.WHOLE_REGISTERS]
    assert set_flags("tensorflow", "2.21.0") == of_tried
    for name, version in [("tensorflow", "2.22.0"), ("tensorflow", None), ("jax", "2.21.0")]:
        assert set_flags(name, version) == [backend.COMPILER]


def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--its_own")
    backend.prepare_process()
    assert os.environ["XLA_FLAGS"] == "--its_own"
