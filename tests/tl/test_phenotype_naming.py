"""The nodes that a walk fitted name its own events again as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import cytoclust as cc
from cytoclust.tl.definitions import load_definitions
from cytoclust.tl.phenotype_naming import NameModel, names_of
from cytoclust.tl.phenotype_panel import passed_events, read_panel, usable_rows
from cytoclust.tl.phenotype_walk import Walk

if TYPE_CHECKING:
    from anndata import AnnData

pytestmark = pytest.mark.filterwarnings("ignore:.*channels are not used to name cells")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    folder = tmp_path_factory.mktemp("study")
    cc.simulate.study(folder, n_patients=3, events_per_sample=(2000, 2500), rng=1)
    adata = cc.io.read_study(folder / "samples.csv", folder / "panel.csv", layer_raw=False)
    cc.pp.flag_margins(adata)
    cc.pp.flag_doublets(adata)
    cc.pp.flag_dead(adata)
    cc.pp.filter_events(adata)
    cc.pp.compensate(adata)
    cc.pp.arcsinh(adata)
    cc.tl.leiden_sketched(adata)
    return adata


def test_the_nodes_name_the_walks_own_events_as_the_walk_did(prepared: AnnData) -> None:
    definitions = load_definitions(("human_leukocyte", "b_all"))
    panel = read_panel(prepared).with_axes(definitions.axes)
    walk = Walk(
        definitions, panel, rows=usable_rows(prepared, panel), given={}, min_probability=0.5
    )
    walk.run()
    expected = names_of(walk)
    model = NameModel(definitions, panel.emptied(), walk.nodes, walk.grades, 0.5)
    found = model(prepared.X, passed_events(prepared))
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.far, expected.far)
    assert found.members == expected.members
    for name, facet in expected.facets.items():
        np.testing.assert_array_equal(found.facets[name].codes, facet.codes)
        assert found.facets[name].members == facet.members
    for name, grade in expected.grades.items():
        np.testing.assert_array_equal(found.grades[name].counts, grade.counts)
        assert (found.grades[name].pairs is None) == (grade.pairs is None)
    assert len(np.unique(found.codes)) > 15
