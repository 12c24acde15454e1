"""An estimator that does not convert to ONNX: it is served as scikit-learn pickled it.

Its trees have learnt which way missing values go, so nothing is imputed. The servers need
scikit-learn and joblib, in the versions of training, for `runtime="sklearn"`.

    python -m training --model training/examples/heart_histogram.py --output artifact
"""

from sklearn.ensemble import HistGradientBoostingClassifier

from training.dataset import read_heart
from training.fields import TABLE
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
