"""Imports a finished model: no data, no fit. Builds the same artifact as training."""
