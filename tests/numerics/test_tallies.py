"""Counts by codes: those of pandas, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoclust.numerics import tallies


@given(seed=st.integers(0, 1000), n_events=st.integers(0, 500), block=st.integers(1, 600))
def test_counts_are_those_of_a_cross_table(seed: int, n_events: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 4, n_events).astype(np.int8)
    columns = rng.integers(-1, 3, n_events).astype(np.int16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "EVENTS_AT_ONCE", block)
        found = tallies.cross_tally(rows, columns, (4, 3))
        single = tallies.tally(rows, 4)
    expected = pd.crosstab(rows, columns).reindex(index=range(4), columns=range(3), fill_value=0)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(single, [np.count_nonzero(rows == i) for i in range(4)])
