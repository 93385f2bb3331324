"""Later samples onto a finished study: same clusters, same names, same map.

A study is analysed once. When the next patients' files arrive, nothing of it moves; their events
get its clusters, phenotypes and coordinates, and events unlike any of it are marked.
"""

# %% A finished study, and files that arrive later
import tempfile
from pathlib import Path

import pandas as pd

import cytoclust as cc

folder = Path(tempfile.mkdtemp())
study = cc.simulate.study(
    folder / "study", n_patients=8, visits=("d0", "d7"), events_per_sample=(400, 600), rng=5
)
sheet = pd.read_csv(study / "samples.csv")
sheet["file"] = [str(study / file) for file in sheet["file"]]
is_later = sheet["patient"].isin(["P07", "P08"])

# %% Analyse the first six patients
reference = cc.pipeline.run(
    sheet[~is_later],
    study / "panel.csv",
    treatment_key="visit",
    compartment_key="compartment",
    donor_key="patient",
    definitions=("human_leukocyte", "b_all"),
)

# %% Prepare the later files as the reference was: flags, compensation, the reference's cofactors
later = cc.io.read_study(sheet[is_later], study / "panel.csv")
for flag in ("invalid", "margins", "time_drift", "doublets", "debris", "dead"):
    getattr(cc.pp, f"flag_{flag}")(later)
cc.pp.filter_events(later)
cc.pp.compensate(later)
cc.pp.arcsinh(later, cofactor=reference.var["cofactor"])

# %% Map
cc.tl.map_events(later, reference)
print(later.obs["phenotype"].value_counts().head(8))
print(later.uns["cytoclust"]["map_events"]["samples"])

# %% How often is a mapped name the true one? (the simulation knows)
truth = pd.read_parquet(study / "truth" / "events.parquet").set_index(["sample", "event"])
place = pd.MultiIndex.from_frame(later.obs[["sample", "event"]].astype({"sample": str}))
later.obs["true"] = truth["population"].reindex(place).to_numpy()
agreement = cc.tl.compare_gates(
    later, "true", names={name: name for name in later.obs["true"].unique() if name}
)
print(f"adjusted Rand index with the truth: {agreement.adjusted_rand:.3f}")

# %% Counts of both go into one table for the tests
counts = pd.concat([cc.get.counts(reference), cc.get.counts(later)], axis=1).fillna(0)
table = cc.tl.differential_abundance(
    counts,
    samples=sheet,
    treatment_key="visit",
    compartment_key="compartment",
    donor_key="patient",
)
print(
    table.sort_values("p_value").head(5)[["population", "compartment", "log2_fold_change", "fdr"]]
)
