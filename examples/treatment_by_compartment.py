"""Treatment by compartment: what changed, when and where, in the sentences of a paper.

A study of 29 patients, blood and marrow, four visits, is simulated with planted changes; at the
end stand sentences of the kind of Ocadlikova et al. 2023 (doi 10.1111/bjh.19104): transient or
persistent, and in one compartment only where the difference between them is shown.
"""

# %% The study
import tempfile
from pathlib import Path

import pandas as pd

import cytoclust as cc

folder = Path(tempfile.mkdtemp())
study = cc.simulate.study(folder / "study", events_per_sample=(400, 1000), rng=7)
design = {
    "treatment_key": "visit",
    "baseline": "d0",
    "compartment_key": "compartment",
    "donor_key": "patient",
}
print(cc.tl.design(study / "samples.csv", **design))

# %% From files to tests
adata = cc.pipeline.run(
    study / "samples.csv",
    study / "panel.csv",
    **design,
    definitions=("human_leukocyte", "b_all"),
    embedding=False,
)
abundance = adata.uns["cytoclust"]["differential_abundance"]["table"]
courses = adata.uns["cytoclust"]["trajectories"]["table"]

# %% Sentences
SHOWN = {
    "persistent": "persistently",
    "partial": "at first, and in part still at the end",
    "transient": "transiently",
    "late": "late",
}


def sentence(course: pd.Series, elsewhere: pd.Series) -> str:
    """Write one course; "only" needs a shown difference and no course of its own elsewhere."""
    change = course["late_change"] if course["call"] == "late" else course["early_change"]
    verb = "rose" if change > 0 else "fell"
    only = course["only_here"] == "shown" and not elsewhere.isin(SHOWN).any()
    return (
        f"{course['population']} {verb} {SHOWN[course['call']]} in {course['compartment']}"
        f"{' only' if only else ''} ({2 ** abs(change):.1f}-fold"
        f" {'up' if change > 0 else 'down'} at {'d28' if course['call'] == 'late' else 'd7'};"
        f" largest p of the parts of this call {course['call_p']:.2g}"
        + (
            f"; difference from the other compartment FDR {course['compartment_fdr']:.2g}"
            if only
            else ""
        )
        + ")."
    )


for _, course in courses[courses["call"].isin(SHOWN)].iterrows():
    same = courses["population"] == course["population"]
    there = courses["compartment"] != course["compartment"]
    print(sentence(course, courses.loc[same & there, "call"]))

# %% How sure is "no change"? Only what is shown to be equivalent is called stable
print(pd.crosstab(courses["call"], courses["compartment"]))

# %% The figures
figures = folder / "figures"
figures.mkdir()
cc.pl.save(cc.pl.forest_grid(abundance), figures / "changes.png")
cc.pl.save(cc.pl.trajectories(courses), figures / "courses.png")
changed = list(dict.fromkeys(courses.loc[courses["call"].isin(SHOWN), "population"]))
grid = cc.pl.abundance_grid(
    adata,
    populations=changed,
    treatment_key="visit",
    compartment_key="compartment",
    donor_key="patient",
)
cc.pl.save(grid, figures / "abundance.png")
print("Figures:", *sorted(path.name for path in figures.iterdir()), "in", figures)

# %% Against what was planted
planted = pd.read_csv(study / "truth" / "effects.csv")
keys = ["population", "compartment", "contrast"]
both = abundance.merge(planted, on=keys, suffixes=("", "_planted"))
print(
    both[[*keys, "log2_fold_change_planted", "log2_fold_change", "fdr"]]
    .sort_values("fdr")
    .head(10)
    .round(2)
    .to_string(index=False)
)
