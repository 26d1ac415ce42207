"""The command line, as `python -m xlstm_classifier`."""

import sys

from train_model import main

if __name__ == "__main__":
    sys.exit(main())
