"""``python -m ecg_mlflow``: the command line."""

import sys

from ecg_mlflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
