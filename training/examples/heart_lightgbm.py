"""LightGBM on the heart fields, served by the scikit-learn runtime.

It handles missing values, so nothing is imputed. Install the extra `lightgbm`; build images
with `EXTRA=lightgbm`.

    python -m training --model training/examples/heart_lightgbm.py --output artifact
"""

from lightgbm import LGBMClassifier

from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.recipe import Recipe

MODEL = Recipe(
    name="heart-lightgbm",
    version="1.0.0",
    title="Probability of coronary disease, by LightGBM",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=read_heart,
    allow=("training_range",),  # another sample of the same patients has narrower ranges
    estimator=lambda: LGBMClassifier(
        n_estimators=40, num_leaves=8, n_jobs=1, random_state=0, verbose=-1
    ),
    runtime="sklearn",
)
