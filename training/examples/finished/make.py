"""Makes the folder `skids-mlflow` and the file `lightgbm.onnx`, with packages that we do not use.

pip install mlflow-skinny onnxmltools xgboost-cpu lightgbm pandas
python training/examples/finished/make.py
"""

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from xgboost import XGBClassifier

HERE = Path(__file__).parent
DATA = pd.read_csv(HERE.parent / "data" / "skids.csv")
COLUMNS = DATA[["speed", "wet"]].astype(float)


def mlflow_folder() -> None:
    """XGBoost by its own flavour, with a signature."""
    trees = XGBClassifier(n_estimators=15, max_depth=2, random_state=0).fit(COLUMNS, DATA["skid"])
    folder = HERE / "skids-mlflow"
    shutil.rmtree(folder, ignore_errors=True)
    signature = mlflow.models.infer_signature(COLUMNS, trees.predict(COLUMNS))
    mlflow.xgboost.save_model(trees, folder, signature=signature)
    for name in ("conda.yaml", "python_env.yaml"):
        (folder / name).unlink()


def onnx_file() -> None:
    """LightGBM by onnxmltools: one input, a label and a ZipMap."""
    trees = LGBMClassifier(n_estimators=15, max_depth=2, random_state=0, verbose=-1)
    trees.fit(COLUMNS.to_numpy(np.float32), DATA["skid"])
    model = convert_lightgbm(trees, initial_types=[("input", FloatTensorType([None, 2]))])
    (HERE / "lightgbm.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    mlflow_folder()
    onnx_file()
