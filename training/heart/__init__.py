"""The demonstration model: fields, data, estimator and card of the Cleveland heart data.

The engine in `training` knows nothing of it; `model.py` joins the parts into a recipe.
"""
