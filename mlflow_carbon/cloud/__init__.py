"""The carbon exports of clouds: what a provider says that its own machines have emitted for one customer.

An export is one file with `SHAPES`, each entered in `EXPORTS`; `read` finds the shape by the header. None
was ever held against a real export: the shapes are those of documents and public code.
"""

from __future__ import annotations

from mlflow_carbon.cloud.beside import BesideRow, MeasuredRun, beside, not_nested
from mlflow_carbon.cloud.contract import Line, Shape
from mlflow_carbon.cloud.exports import EXPORTS, Export, read

__all__ = ["EXPORTS", "BesideRow", "Export", "Line", "MeasuredRun", "Shape", "beside", "not_nested", "read"]
