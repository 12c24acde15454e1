"""Rows as a pandas DataFrame, for estimators that were fitted to one.

Only the scikit-learn runtime needs it, so pandas is imported late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.records.schema import FieldSpec, FieldTable

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_of(table: FieldTable, rows: NDArray[Any]) -> DataFrame:
    """Rows [n, fields used] with the fields' columns as names and words instead of codes.

    A category whose choices all have words becomes a column of words; NaN stays missing.
    """
    import pandas as pd

    fields = [table.fields[index] for index in table.used]
    return pd.DataFrame(
        {
            field.column or field.name: _values(field, values)
            for field, values in zip(fields, rows.T, strict=True)
        }
    )


def _values(field: FieldSpec, values: NDArray[Any]) -> Any:
    import pandas as pd

    words = {float(choice.code): choice.word for choice in field.choices}
    if not words or None in words.values():
        return values.astype(np.float64)
    return pd.Series([words.get(float(value), np.nan) for value in values], dtype=object)
