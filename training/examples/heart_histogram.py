"""An estimator that does not convert to ONNX and is served by scikit-learn itself.

Its trees handle missing values, so nothing is imputed. For `runtime="sklearn"` the servers need
scikit-learn and skops in the versions of training.

    python -m training --model training/examples/heart_histogram.py --output artifact
"""

from sklearn.ensemble import HistGradientBoostingClassifier

from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.recipe import Recipe

MODEL = Recipe(
    name="heart-histogram",
    version="1.0.0",
    title="Probability of coronary disease, by histogram boosting",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=read_heart,
    estimator=lambda: HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, min_samples_leaf=15, random_state=0
    ),
    runtime="sklearn",
)
