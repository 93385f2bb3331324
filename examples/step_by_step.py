"""The same way, verb by verb, ending in scanpy.

Every verb works on the AnnData; scanpy and squidpy read the same slots.
"""

# %% Read every event of every file
import tempfile
from pathlib import Path

import scanpy as sc

import cytoclust as cc

folder = Path(tempfile.mkdtemp())
cc.simulate.study(folder, n_patients=5, events_per_sample=(300, 500), rng=2)
adata = cc.io.read_study(folder / "samples.csv", folder / "panel.csv")

# %% Flags with reasons; only filter_events drops
cc.pp.flag_invalid(adata)
cc.pp.flag_margins(adata)
cc.pp.flag_time_drift(adata)
cc.pp.flag_doublets(adata)
cc.pp.flag_debris(adata)
cc.pp.flag_dead(adata)
cc.pp.filter_events(adata)

# %% Compensate and transform, once and in place
cc.pp.compensate(adata)
cc.pp.arcsinh(adata)

# %% Cluster and embed every event
cc.pp.neighbors(adata)
cc.tl.leiden(adata)
cc.tl.umap(adata)

# %% Names with their evidence
cc.tl.call_markers(adata)
cc.tl.annotate_phenotypes(adata, definitions=("human_leukocyte", "b_all"))
print(adata.obs["phenotype"].value_counts())

# %% Abundance and marker state over treatment by compartment
design = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
abundance = cc.tl.differential_abundance(adata, **design)
state = cc.tl.differential_state(adata, **design)
print(abundance.sort_values("p_value").head(10).to_string(index=False))
print(state.sort_values("p_value").head(10).to_string(index=False))

# %% Hand-over to scanpy, without scatter and time, which stay linear
adata = adata[:, adata.var["marker_class"] != "none"].copy()
sc.tl.rank_genes_groups(adata, "phenotype", method="t-test_overestim_var", use_raw=False)
sc.pl.umap(adata, color="phenotype", show=False)
