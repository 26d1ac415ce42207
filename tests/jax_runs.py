"""The command on JAX, in processes of its own: a process has one backend."""

import os
import subprocess

from tiny_run import ROOT, command, settings

# Enough steps of enough size that the epochs differ, with every improvement at work.
LEARNING = settings(JIT_COMPILE=True, LR_BASE=0.02)


def environment(cache, **more):
    """Returns that of a process on JAX; compiled code is kept in the folder `cache`."""
    return os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **more,
    }


def run(cache, *arguments, **more):
    """Runs the command on JAX to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(cache, **more),
        capture_output=True,
        text=True,
    )
