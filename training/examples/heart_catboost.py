"""CatBoost on the heart fields, served by the scikit-learn runtime.

It handles missing values, so nothing is imputed. Install the extra `catboost`; build images
with `EXTRA=catboost`. CatBoost stamps a model with the time, so a second training has other hashes.

    python -m training --model training/examples/heart_catboost.py --output artifact
"""

from catboost import CatBoostClassifier

from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.recipe import Recipe

MODEL = Recipe(
    name="heart-catboost",
    version="1.0.0",
    title="Probability of coronary disease, by CatBoost",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=read_heart,
    allow=("training_range",),  # another sample of the same patients has narrower ranges
    estimator=lambda: CatBoostClassifier(
        iterations=40,
        depth=3,
        thread_count=1,
        random_seed=0,
        verbose=False,
        allow_writing_files=False,
    ),
    runtime="sklearn",
)
