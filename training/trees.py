"""Trees of scikit-learn as one TreeEnsemble node in float64, missing values included.

skl2onnx writes thresholds and sums in float32, so large forests drift, and it drops a tree's own
routes for missing values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

SUM = 1
"""The operator's aggregate function."""


@dataclass(slots=True)
class _Nodes:
    """The attributes of the operator. It keeps splits and leaves in separate lists."""

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    children: list[tuple[int, int]] = field(default_factory=list)
    """Index of the left and of the right child, among the splits or among the leaves."""
    leaves: list[tuple[int, int]] = field(default_factory=list)
    """1 where the left or the right child is a leaf."""
    weight: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, tree: Any, values: NDArray[np.float64]) -> None:
        """Add a fitted `tree_` whose node i answers `values[i]`."""
        splits = np.flatnonzero(tree.children_left >= 0)
        first_split, first_leaf = len(self.feature), len(self.weight)
        is_leaf = tree.children_left < 0
        index = np.where(is_leaf, np.cumsum(is_leaf) - 1 + first_leaf, 0)
        index[splits] = np.arange(len(splits)) + first_split
        self.roots.append(first_split)
        self.weight += values[is_leaf].tolist()
        if not len(splits):  # a lone leaf: a split whose children are the same leaf
            self._split(0, 0.0, 1, (first_leaf, first_leaf), (1, 1))
        for node in splits:
            left, right = tree.children_left[node], tree.children_right[node]
            self._split(
                int(tree.feature[node]),
                float(tree.threshold[node]),
                int(tree.missing_go_to_left[node]),
                (int(index[left]), int(index[right])),
                (int(is_leaf[left]), int(is_leaf[right])),
            )

    def _split(
        self,
        feature: int,
        threshold: float,
        missing_left: int,
        children: tuple[int, int],
        leaves: tuple[int, int],
    ) -> None:
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.missing_left.append(missing_left)
        self.children.append(children)
        self.leaves.append(leaves)


def tree_ensemble(
    trees: Sequence[tuple[Any, NDArray[np.float64]]], source: str, target: str, name: str
) -> Any:
    """A node that sums the trees: float64 [n, features] to float64 [n, 1]."""
    nodes = _Nodes()
    for tree, values in trees:
        nodes.add(tree, values)
    left, right = zip(*nodes.children, strict=True)
    left_leaf, right_leaf = zip(*nodes.leaves, strict=True)
    return helper.make_node(
        "TreeEnsemble",
        [source],
        [target],
        name,
        domain="ai.onnx.ml",
        aggregate_function=SUM,
        n_targets=1,
        post_transform=0,
        tree_roots=nodes.roots,
        nodes_featureids=nodes.feature,
        nodes_splits=numpy_helper.from_array(np.array(nodes.threshold), "splits"),
        # 0: the left branch is taken where the value is at most the threshold.
        nodes_modes=numpy_helper.from_array(np.zeros(len(nodes.feature), np.uint8), "modes"),
        nodes_missing_value_tracks_true=nodes.missing_left,
        nodes_truenodeids=left,
        nodes_falsenodeids=right,
        nodes_trueleafs=left_leaf,
        nodes_falseleafs=right_leaf,
        leaf_targetids=[0] * len(nodes.weight),
        leaf_weights=numpy_helper.from_array(np.array(nodes.weight), "weights"),
    )
