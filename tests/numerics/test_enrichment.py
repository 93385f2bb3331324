"""Marker enrichment scores."""

from __future__ import annotations

import numpy as np

from cytoclust.numerics.enrichment import enrichment_labels, enrichment_scores


def test_scores_are_the_published_formula_on_exact_quantiles() -> None:
    inside = np.array([[3.0], [4.0], [5.0]])  # median 4, range 1
    outside = np.array([[-2.0], [0.0], [2.0]])  # median 0, range 2
    scores = enrichment_scores([inside, outside], [outside, inside])
    # 4 + 2 / 1 - 1 = 5 upwards; -(4 + 1 / 2 - 1) = -3.5 downwards; the largest becomes 10
    np.testing.assert_allclose(scores, [[10.0], [-7.0]])


def test_labels_name_the_largest_scores() -> None:
    scores = np.array([[9.6, -3.2, 0.4], [0.0, 1.2, -1.0]])
    assert enrichment_labels(scores, ["CD14", "CD16", "CD3"]) == ["CD14+10 CD16-3", ""]


def test_a_marker_that_does_not_differ_has_no_score() -> None:
    same = np.random.default_rng(0).normal(size=(500, 2))
    assert not enrichment_scores([same, same], [same, same]).any()
