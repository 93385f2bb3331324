"""The same study in memory, through a store on threads, and on 1 and 2 workers: one answer.

    python benchmarks/same_answer.py --folder /somewhere [--study mouse_activation=SHEET,PANEL,TREATMENT,SET]

Every way is a whole run of the pipeline in a process of its own. Of each, the SHA-256 of the values,
the clusters, the names, the coordinates and every table that the run wrote are compared. Results are
added to ``results/same_answer.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "same_answer.json"
WAYS = ("memory", "threads", "1 worker", "2 workers")
COLUMNS = ("leiden", "phenotype", "phenotype_cluster", "phenotype_far", "lineage_cluster")


def digest(values: object) -> str:
    return hashlib.sha256(memoryview(values).cast("B")).hexdigest()[:16]


def analyse(way: str, folder: Path, study: tuple[str, str, str, str]) -> dict[str, str]:
    """Run the pipeline one way, and take the digests of what it found."""
    from contextlib import nullcontext

    import numpy as np
    from distributed import LocalCluster

    import cytoclust as cc
    from cytoclust import chunks

    warnings.simplefilter("ignore")
    sheet, panel, treatment, names = study
    workers = int(way[0]) if way.endswith(("worker", "workers")) else 0
    cluster = (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        if workers
        else nullcontext()
    )
    demo = (
        {"compartment_key": "compartment", "donor_key": "patient"} if treatment == "visit" else {}
    )
    with cluster, cluster.get_client() if workers else nullcontext() as client:
        adata = cc.pipeline.run(
            sheet, panel, folder / "run", treatment_key=treatment, definitions=tuple(names.split("+")),
            store=None if way == "memory" else folder / "store", client=client, fcs=False,
            overwrite=True, **demo,
        )  # fmt: skip
        values = hashlib.sha256()
        every = np.arange(adata.n_obs)
        for rows in np.array_split(every, max(1, adata.n_obs // 500_000)):
            values.update(chunks.take_rows(adata.X, rows).tobytes())
    found = {
        "values": values.hexdigest()[:16],
        "X_umap": digest(np.ascontiguousarray(adata.obsm["X_umap"])),
    }
    for name in COLUMNS:
        column = adata.obs[name]
        codes = column.cat.codes if hasattr(column, "cat") else column
        found[name] = digest(np.ascontiguousarray(codes.to_numpy().astype(np.int32)))
    for table in sorted((folder / "run" / "tables").glob("*.csv")):
        found[table.name] = hashlib.sha256(table.read_bytes()).hexdigest()[:16]
    return found | {"events": str(adata.n_obs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--study", default="", help="NAME=SHEET,PANEL,TREATMENT,SET+SET")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    name, _, parts = asked.study.partition("=")
    study = tuple(parts.split(","))
    if not asked.study:
        import cytoclust as cc

        name, place = "demo", asked.folder / "demo"
        if not place.exists():
            cc.simulate.study(place, rng=0)
        study = (
            str(place / "samples.csv"),
            str(place / "panel.csv"),
            "visit",
            "human_leukocyte+b_all",
        )
    if asked.way:
        print(json.dumps(analyse(asked.way, asked.folder, study)))
        return
    found = {}
    for way in WAYS:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--folder", asked.folder, "--way", way]
        done = subprocess.run(
            [*command, "--study", f"{name}={','.join(study)}"],
            check=True,
            capture_output=True,
            text=True,
        )
        found[way] = json.loads(done.stdout.strip().splitlines()[-1])
        print(way, f"{time.perf_counter() - start:.0f} s", flush=True)
    different = {
        way: [key for key, value in found["memory"].items() if digests.get(key) != value]
        for way, digests in found.items()
    }
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "study": name,
        "events": int(found["memory"]["events"]), "compared": list(found["memory"]), "different": different,
    }  # fmt: skip
    earlier = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    kept = [row for row in earlier if row["study"] != name]
    RESULTS.write_text(json.dumps([*kept, facts], indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
