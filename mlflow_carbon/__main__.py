"""`python -m mlflow_carbon` is the command `mlflow-carbon`."""

import sys

from mlflow_carbon.cli import main

sys.exit(main())
