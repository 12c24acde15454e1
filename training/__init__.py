"""Training: from data to an artifact. The only package that imports pandas and scikit-learn."""
