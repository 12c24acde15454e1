"""Training: data to artifact. pandas, scikit-learn and joblib live here and nowhere else."""
