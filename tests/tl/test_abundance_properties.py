"""What holds for every method: order, threads, and studies at the edge of what can be tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytoclust import tl
from cytoclust.numerics.threads import thread_limit

METHODS = ("voom", "glmm", "lmm", "signflip")
VISITS = ("d0", "d7", "d28")
KEYS = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
NUMBERS = ("log2_fold_change", "std_error", "df", "p_value", "fdr")
pytestmark = pytest.mark.filterwarnings("ignore:method 'glmm' estimates")


def study(
    seed: int, n_donors: int = 7, n_populations: int = 7
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts with donor effects; some visits missing."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"P{p}_{place}_{visit}", f"P{p}", place, visit)
        for p in range(n_donors)
        for place in ("PB", "BM")
        for visit in VISITS
        if visit == "d0" or rng.uniform() < 0.9
    ]
    sheet = pd.DataFrame(rows, columns=["sample", "patient", "compartment", "visit"])
    sheet["visit"] = pd.Categorical(sheet["visit"], categories=VISITS)
    sheet["compartment"] = pd.Categorical(sheet["compartment"], categories=["PB", "BM"])
    donor = rng.normal(0, 0.5, (n_donors, n_populations))[sheet["patient"].str[1:].astype(int)]
    level = rng.uniform(4, 8, n_populations) + donor
    counts = rng.poisson(np.exp(level + rng.normal(0, 0.4, level.shape))).T
    names = [f"c{k}" for k in range(n_populations)]
    return pd.DataFrame(counts, index=names, columns=sheet["sample"]), sheet


def by_key(result: pd.DataFrame) -> pd.DataFrame:
    return result.set_index(["population", "compartment", "contrast"]).sort_index()


@pytest.mark.parametrize("method", METHODS)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000))
def test_order_does_not_matter(method: str, seed: int) -> None:
    counts, sheet = study(seed)
    expected = by_key(tl.differential_abundance(counts, samples=sheet, **KEYS, method=method))  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    shuffled = counts.iloc[rng.permutation(len(counts)), rng.permutation(counts.shape[1])]
    mixed = sheet.iloc[rng.permutation(len(sheet))]
    found = by_key(tl.differential_abundance(shuffled, samples=mixed, **KEYS, method=method))  # type: ignore[arg-type]
    assert (found["n_paired"] == expected["n_paired"]).all()
    both = expected["status"].isin(["ok"]) & found["status"].isin(["ok"])
    assert both.sum() >= (expected["status"] == "ok").sum() - 2
    for column in NUMBERS:
        np.testing.assert_allclose(found.loc[both, column], expected.loc[both, column], rtol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_threads_do_not_matter(method: str) -> None:
    counts, sheet = study(1)
    found = []
    for threads in (1, 2):
        with thread_limit(threads):
            found.append(
                tl.differential_abundance(counts, samples=sheet, **KEYS, method=method)  # type: ignore[arg-type]
            )
    pd.testing.assert_frame_equal(found[0], found[1])


@pytest.mark.parametrize("method", METHODS)
def test_studies_at_the_edge_keep_every_row(method: str) -> None:
    counts, sheet = study(2, n_donors=8)
    counts.loc["zero"] = 0
    patient, visit = sheet["patient"], sheet["visit"]
    blood = sheet["compartment"] == "PB"
    apart = sheet[
        (blood & patient.isin(["P0", "P1", "P2"])) | (~blood & ~patient.isin(["P0", "P1", "P2"]))
    ]
    cases = {
        "one patient": sheet[patient == "P0"],
        "one visit in the marrow": sheet[blood | (visit == "d0")],
        "patients in one compartment": apart,
        "three per group": sheet[patient.isin(["P0", "P1", "P2"]) & blood],
        "batch is the visit": sheet.assign(batch=visit.astype(str)),
    }
    for name, part in cases.items():
        result = tl.differential_abundance(
            counts[part["sample"]],
            samples=part,
            **KEYS,
            method=method,  # type: ignore[arg-type]
            covariates=["batch"] if "batch" in part else [],
            denominator="total",
        )
        n_places = part["compartment"].nunique()
        n_contrasts = 3
        assert len(result) == len(counts) * n_contrasts * (2 * n_places - 1), name
        tested = result["status"].isin(["ok", "singular", "separated"])
        assert (result["p_value"].notna() == tested).all(), name
        assert (result.loc[~tested, "reason"] != "").all(), name
        assert not tested[result["population"] == "zero"].any(), name
        if name == "one patient":
            assert not tested.any()
        if name == "batch is the visit" and method != "signflip":
            assert result["reason"].str.contains("confounded").any()
            assert not tested.any()
        if name == "one visit in the marrow":
            assert not tested[result["compartment"] != "PB"].any()


@pytest.mark.parametrize("method", ["glmm", "lmm", "signflip"])
def test_counts_above_two_to_the_31(method: str) -> None:
    counts, sheet = study(3, n_donors=9)
    keys = {**KEYS, "method": method, "denominator": "total"}
    expected = tl.differential_abundance(counts * 1000, samples=sheet, **keys)  # type: ignore[arg-type]
    found = tl.differential_abundance(counts.astype(np.int64) * 10**7, samples=sheet, **keys)  # type: ignore[arg-type]
    assert counts.to_numpy().max() * 10**7 > 2**31
    np.testing.assert_allclose(found["log2_fold_change"], expected["log2_fold_change"], atol=0.01)


def test_five_thousand_populations_in_a_binomial_model() -> None:
    rng = np.random.default_rng(4)
    sheet = pd.DataFrame(
        [(f"P{p}{v}", f"P{p}", v) for p in range(5) for v in ("d0", "d7")],
        columns=["sample", "patient", "visit"],
    )
    counts = pd.DataFrame(
        rng.poisson(rng.gamma(2, 20, (5000, 1)) * np.exp(rng.normal(0, 0.3, (5000, 10)))),
        index=[f"c{k}" for k in range(5000)],
        columns=sheet["sample"],
    )
    result = tl.differential_abundance(
        counts, samples=sheet, treatment_key="visit", donor_key="patient", method="glmm"
    )
    assert len(result) == 5000
    assert result["status"].isin(["ok", "singular", "separated", "too few", "not estimable"]).all()
    assert (result["status"].isin(["ok", "singular"])).mean() > 0.9
