"""What the native code of TensorFlow writes to standard error, hidden unless something failed."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# A machine without a GPU says "(303)" or NO_DEVICE, which is no fault.
_GPU_FAULT = re.compile(
    r"dlopen|could not load dynamic library|cuInit(?!.*(\(303\)|NO_DEVICE))", re.IGNORECASE
)


@contextlib.contextmanager
def without_native_chatter() -> Iterator[None]:
    """Hides what TensorFlow's native code writes to standard error while it is imported.

    Its first messages come before it reads TF_CPP_MIN_LOG_LEVEL. They are shown after all where
    the import failed, or where they say that a GPU is there but its libraries could not be loaded.
    """
    # Level 1 hides remarks but not warnings: a missing CUDA library is one.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Each fold is a model of its own; TensorFlow takes them for one function traced in vain.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept, failed = os.dup(2), True
    with tempfile.TemporaryFile() as captured:
        try:
            os.dup2(captured.fileno(), 2)
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            captured.seek(0)
            text = captured.read().decode(errors="replace")
            if failed or _GPU_FAULT.search(text):
                print(text, end="", file=sys.stderr, flush=True)
