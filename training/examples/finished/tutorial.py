"""The model of many a tutorial: gradient boosting on five columns of a DataFrame, pickled.

    python -m training.examples.finished.tutorial model.joblib
    SCORER_ALLOW_PICKLE=1 heart-scorer import model.joblib --outcome condition \\
        --fields training/heart/data/heart_cleveland.csv --output artifact
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier

import training.heart

DATA = Path(training.heart.__path__[0]) / "data" / "heart_cleveland.csv"
NAMES = ["age", "sex", "cp", "trestbps", "chol"]

if __name__ == "__main__":
    data = pd.read_csv(DATA)
    model = GradientBoostingClassifier(random_state=0).fit(data[NAMES], data["condition"])
    joblib.dump(model, sys.argv[1])
