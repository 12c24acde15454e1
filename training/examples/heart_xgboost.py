"""XGBoost on the heart fields, served by the scikit-learn runtime.

It handles missing values, so nothing is imputed. Install the extra `xgboost`; build images
with `EXTRA=xgboost`. Without `runtime="sklearn"` it is converted to ONNX, and the servers need no
XGBoost.

    python -m training --model training/examples/heart_xgboost.py --output artifact
"""

from xgboost import XGBClassifier

from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.recipe import Recipe

MODEL = Recipe(
    name="heart-xgboost",
    version="1.0.0",
    title="Probability of coronary disease, by XGBoost",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=read_heart,
    allow=("training_range",),  # another sample of the same patients has narrower ranges
    estimator=lambda: XGBClassifier(n_estimators=40, max_depth=3, n_jobs=1, random_state=0),
    runtime="sklearn",
)
