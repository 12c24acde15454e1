"""A stock scikit-learn pipeline on the heart fields: imputation, one-hot codes, boosted trees.

python -m training --model training/examples/heart_boosting.py --output artifact
"""

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.recipe import Recipe

CODES = [TABLE.used_names.index(name) for name in ("cp", "slope", "thal")]
NUMBERS = [place for place in range(len(TABLE.used)) if place not in CODES]


def estimator() -> Pipeline:
    """The rows are an array [n, fields used], so columns are selected by their index."""
    codes = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [("numbers", SimpleImputer(strategy="median"), NUMBERS), ("codes", codes, CODES)]
    )
    trees = GradientBoostingClassifier(n_estimators=60, max_depth=2, random_state=0)
    return Pipeline([("columns", columns), ("trees", trees)])


MODEL = Recipe(
    name="heart-boosting",
    version="1.0.0",
    title="Probability of coronary disease, by boosted trees",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=read_heart,
    estimator=estimator,
)
