"""Rows as estimators of the scikit-learn runtime take them: decimals, pandas DataFrames.

Only estimators of DataFrames need pandas, so it is imported late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.records.schema import FieldSpec, FieldTable

if TYPE_CHECKING:
    from pandas import DataFrame


DIGITS = 7
"""Significant digits of the decimal for a float32 value; up to six always survive as float32."""


def decimals_of(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The decimals of at most seven digits that round to float32 values, each as a float64.

    A value that no such decimal rounds to stays as it is.
    """
    values = rows.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = DIGITS - 1 - np.floor(np.log10(np.abs(values)))
    digits = np.clip(np.nan_to_num(digits, posinf=0, neginf=0), -22, 22)
    # Powers of ten up to 22 are exact, so the quotient or product is the decimal's nearest float64.
    scale = 10 ** np.abs(digits)
    whole = np.rint(np.where(digits < 0, values / scale, values * scale))
    decimals: NDArray[np.float64] = np.where(digits < 0, whole * scale, whole / scale)
    return np.where(decimals.astype(np.float32) == rows, decimals, values)


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
