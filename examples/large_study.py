"""A large study, verb by verb: memory in sight, every step linear in events.

The study is kept small enough for a minute; give a number of events per sample to see how time and
memory grow: ``python examples/large_study.py 20000``.
"""

# %% Files
import sys
import tempfile
import time
from pathlib import Path

import cytoclust as cc

n_events = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1500
study = cc.simulate.study(
    Path(tempfile.mkdtemp()), events_per_sample=(n_events // 2, n_events), n_patients=16, rng=6
)

# %% Read without a second copy of the values; write_fcs reads the files again when it needs them
adata = cc.io.read_study(study / "samples.csv", study / "panel.csv", layer_raw=False)
print(f"{adata.n_obs:,} events x {adata.n_vars} channels, {adata.X.nbytes / 1e6:,.0f} MB")


# %% Every step changes the AnnData in place
def timed(verb, *args, **options):
    """Run a verb on the study and say how long it took."""
    start = time.perf_counter()
    verb(adata, *args, **options)
    print(f"{verb.__module__.split('.')[1]}.{verb.__name__}: {time.perf_counter() - start:.1f} s")


for flag in ("invalid", "margins", "time_drift", "doublets", "debris", "dead"):
    timed(getattr(cc.pp, f"flag_{flag}"))
timed(cc.pp.filter_events)
timed(cc.pp.compensate)
timed(cc.pp.arcsinh)

# %% Prototypes stand for events while communities are found; every event gets its label
timed(cc.tl.leiden_sketched)
timed(cc.tl.umap_sketched)

# %% A lineage again, deeper
timed(cc.tl.call_markers)
timed(cc.tl.annotate_phenotypes, definitions=("human_leukocyte", "b_all"))
cells = adata.obs["phenotype"].isin(["CD8 naive", "CD8 CM", "CD8 EM", "CD8 TEMRA"]).to_numpy()
timed(cc.tl.subcluster, mask=cells, markers=["CD45RA", "CCR7", "CD27", "CD57"])
print(adata.obs["subcluster"].value_counts().head(5))

# %% Tests see counts per sample, so they cost the same for any number of events
design = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
table = cc.tl.differential_abundance(adata, **design)
print(table.sort_values("p_value").head(5)[["population", "compartment", "contrast", "fdr"]])
