"""Verb by verb, and over to scanpy and back.

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
cells = adata[:, adata.var["marker_class"] != "none"].copy()
cells.var_names = cells.var["marker"].astype(str)
sc.tl.leiden(cells, resolution=0.5, key_added="by_scanpy", flavor="igraph", n_iterations=2)
sc.tl.dendrogram(cells, "phenotype", use_rep="X")
print(sc.get.aggregate(cells, "phenotype", "median").to_df(layer="median").round(1).iloc[:5, :5])
sc.pl.umap(cells, color="phenotype", show=False)

# %% And back: clusters made elsewhere are named like any others
adata.obs["by_scanpy"] = cells.obs["by_scanpy"]
cc.tl.annotate_phenotypes(adata, ("human_leukocyte", "b_all"), cluster_key="by_scanpy")
clusters = adata.uns["cytoclust"]["annotate_phenotypes"]["clusters"]
print(clusters[["phenotype", "score", "runner_up", "n_events"]].round(2).head(8))
