from __future__ import annotations

import numpy as np
import pytest

from cytoclust.numerics.borders import settle_borders
from cytoclust.numerics.leiden import leiden
from cytoclust.numerics.sketch import Edges, label_events, sketch_events
from cytoclust.numerics.threads import thread_limit


def chain(values: list[float]) -> Edges:
    """Events in a row, each joined with the next."""
    n = len(values) + 1
    at = np.arange(n, dtype=np.int32)
    return Edges(at[:-1], at[1:], np.array(values), at)


def test_an_event_follows_the_weight_of_its_edges() -> None:
    edges = chain([1.0, 1.0, 2.0, 1.0])
    labels = np.array([0, 0, 0, 1, 1], dtype=np.int32)
    # event 2 has 1 toward its own cluster and 2 toward the other; event 3 2 toward the first, 1 own
    assert settle_borders(edges, labels).tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_a_tie_changes_nothing(labels: list[int]) -> None:
    own = np.array(labels, dtype=np.int32)
    assert settle_borders(chain([1.0, 1.0, 1.0]), own).tolist() == labels


def test_no_cluster_is_emptied_and_lone_events_stay() -> None:
    labels = np.array([0, 0, 1, 0, 0], dtype=np.int32)
    assert settle_borders(chain([1.0] * 4), labels).tolist() == [0, 0, 1, 0, 0]
    alone = Edges(*(np.zeros(0, dtype=np.int32),) * 2, np.zeros(0), np.arange(3, dtype=np.int32))
    assert settle_borders(alone, np.array([0, 1, 1], dtype=np.int32)).tolist() == [0, 1, 1]


def test_settled_borders_are_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(8000) % 4
    X = np.zeros((8000, 3), dtype=np.float32)
    X[:, :2] = 2.4 * np.column_stack([truth % 2, truth // 2])
    X += rng.normal(scale=0.6, size=X.shape)
    found = []
    for n_jobs in (1, 2):
        with thread_limit(n_jobs):
            sketch = sketch_events(X, n_prototypes=60, rng=np.random.default_rng(0))
            labels = leiden(sketch.graph, 0.1, rng=np.random.default_rng(0))
            found.append(label_events(sketch, labels))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    events, own = found[0]
    assert events.max() == own.max() == 3
    assert (np.diff(np.bincount(events)) <= 0).all()

    def right(clusters: np.ndarray) -> float:
        table = np.histogram2d(truth, clusters, bins=4)[0]
        return float(table.max(axis=0).sum() / len(truth))

    assert right(events) > right(own[sketch.nearest]) + 0.003
    assert (events == own[sketch.nearest]).mean() > 0.9
