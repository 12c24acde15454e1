"""Convert Orange's `heart_disease.tab` (UCI heart disease, Cleveland) to heart_cleveland.csv.

Use:  python convert_heart.py heart_disease.tab heart_cleveland.csv

Input: the file Orange/datasets/heart_disease.tab of the PyPI package Orange3 (3.40.0), a
tab-separated file with three header lines (names, types, roles), labels as words, missing as "?".
Output: a comma-separated file with the column names and the zero-based integer codes of the
"heart_cleveland_upload" form of the data set. A missing value is an EMPTY field. Row order is
that of the UCI file processed.cleveland.data (303 rows). Only the standard library is needed.
"""

import csv
import sys
from collections.abc import Iterator

COLUMNS = [
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "condition",
]

# Orange's column, in file order, for each of COLUMNS.
SOURCE = [
    "age",
    "gender",
    "chest pain",
    "rest SBP",
    "cholesterol",
    "fasting blood sugar > 120",
    "rest ECG",
    "max HR",
    "exerc ind ang",
    "ST by exercise",
    "slope peak exc ST",
    "major vessels colored",
    "thal",
    "diameter narrowing",
]

# Words -> codes. The comment gives the code of UCI's processed.cleveland.data.
CODES = {
    "sex": {"female": "0", "male": "1"},  # UCI 0, 1
    "cp": {
        "typical ang": "0",
        "atypical ang": "1",  # UCI 1, 2
        "non-anginal": "2",
        "asymptomatic": "3",
    },  # UCI 3, 4
    "restecg": {
        "normal": "0",
        "ST-T abnormal": "1",  # UCI 0, 1
        "left vent hypertrophy": "2",
    },  # UCI 2
    "slope": {"upsloping": "0", "flat": "1", "downsloping": "2"},  # UCI 1, 2, 3
    "thal": {"normal": "0", "fixed defect": "1", "reversable defect": "2"},  # UCI 3, 6, 7
    "fbs": {"0": "0", "1": "1"},
    "exang": {"0": "0", "1": "1"},
    "condition": {"0": "0", "1": "1"},  # UCI num 0 -> 0, 1..4 -> 1
}


def convert(rows: list[list[str]]) -> Iterator[list[str]]:
    """Yield output rows (lists of str) for the data rows of the .tab file."""
    for n, row in enumerate(rows, 1):
        if len(row) != len(COLUMNS):
            raise ValueError(f"data row {n}: {len(row)} fields, not {len(COLUMNS)}")
        out = []
        for name, text in zip(COLUMNS, row, strict=True):
            text = text.strip()
            if text in ("?", ""):
                out.append("")
            elif name in CODES:
                out.append(CODES[name][text])  # KeyError on an unknown word: on purpose
            else:
                value = float(text)
                out.append(str(int(value)) if value == int(value) else repr(value))
        yield out


def main(source: str, target: str) -> None:
    """Convert the file `source` to the file `target`."""
    with open(source, encoding="ascii", newline="") as handle:
        lines = list(csv.reader(handle, delimiter="\t"))
    if lines[0] != SOURCE:
        raise ValueError(f"unexpected columns: {lines[0]}")
    out = list(convert(lines[3:]))
    if len(out) != 303:
        raise ValueError(f"{len(out)} rows, not 303")
    with open(target, "w", encoding="ascii", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(out)
    sys.stdout.write(f"{target}: {len(out)} rows, {sum('' not in r for r in out)} complete\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
