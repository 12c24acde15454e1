"""Finished models of other tools, to import: a script's joblib file, an MLflow folder, ONNX."""
