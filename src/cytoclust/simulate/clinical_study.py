"""A clinical study with known truth, written as FCS files."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from cytoclust.errors import ArgumentError
from cytoclust.numerics.threads import thread_limit
from cytoclust.simulate import composition, effects
from cytoclust.simulate.events import Setting, simulate_sample
from cytoclust.simulate.staining import Staining, draw_staining, state_table
from cytoclust.simulate.writing import Sample, staged, write_sample, write_tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd
    from numpy.typing import NDArray

    from cytoclust.simulate.events import SampleEvents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """Everything about a study but its events."""

    samples: list[Sample]
    settings: list[Setting]
    spillovers: list[NDArray[np.float64]]
    generators: list[np.random.Generator]
    effects: pd.DataFrame
    state_effects: pd.DataFrame


def study(  # noqa: PLR0913
    folder: str | PathLike[str],
    *,
    n_patients: int = 29,
    visits: Sequence[str] = ("d0", "d7", "d15", "d28"),
    compartments: Sequence[str] = ("PB", "BM"),
    events_per_sample: tuple[int, int] = (2_000, 6_000),
    missing: Sequence[float] = (0.15, 0.45),
    null: bool = False,
    effect_scale: float = 1.0,
    n_batches: int = 3,
    batch_sd: float = 0.06,
    spillover_scale: float = 1.0,
    drift_share: float = 0.1,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Simulate a clinical study of blood and marrow under treatment, and write it to `folder`.

    Parameters
    ----------
    folder
        Folder to write; made if it does not exist.
    n_patients
        Number of patients; each may come to every visit and give a sample of each compartment.
    visits
        Names of the visits in order; the first is before treatment.
    compartments
        Names of the compartments; "BM" has the composition and effects of marrow, "PB" of blood.
        Of other names, the first is like blood and the rest like marrow.
    events_per_sample
        Smallest and largest number of events of a file; the number is log-uniform between them.
    missing
        Chance that a visit is missing, one per compartment; 0.4 times this at the first visit.
    null
        If true, nothing is planted: neither abundance nor staining depends on the visit.
    effect_scale
        Factor on every planted change (on the log scale).
    n_batches
        Number of consecutive antibody lots; a lot has its own brightness and spillover.
    batch_sd
        Standard deviation of the natural logarithm of a lot's brightness, per marker.
    spillover_scale
        Factor on the spillover coefficients, between 0 (none) and 1.5.
    drift_share
        Share of the files in which all signals weaken for 10-20 % of the events.
    rng
        Seed or generator of all random numbers.
    n_jobs
        Threads; None for all processors. The files do not depend on it.
    overwrite
        Whether to replace a study that `folder` holds already. Files that do not belong to it stay.
    progress
        Whether to show a progress bar on stderr.

    Returns
    -------
    pathlib.Path
        `folder`. It holds one FCS 3.1 file per sample (uncompensated linear values, the matrix in
        $SPILLOVER), ``samples.csv`` (file, sample, patient, compartment, visit, batch),
        ``panel.csv`` (channel, marker, marker_class) and ``truth/``:

        - ``events.parquet``: sample, event (0-based row of the file), population, kind (cell,
          doublet, dead, debris, margin). A doublet has the population of its first cell, debris "".
        - ``effects.csv``: population, compartment, contrast, log2_fold_change against unchanged
          populations, for each contrast whose expected change is not zero.
        - ``state_effects.csv``: population, marker, compartment, contrast, difference of the
          median of arcsinh(x / 150), x compensated, that the planted change of staining makes.
        - ``drift.csv``: sample, first_event, last_event of a stretch with weakened signals.

    Raises
    ------
    ArgumentError
        If an argument cannot be used, or `folder` cannot be written, or holds FCS files or a
        study already.

    Notes
    -----
    The logarithm of a population's abundance varies between patients (standard deviation 0.6), within
    patients between compartments (0.4; both times 0.6-1.4 per population) and between samples
    (0.3-0.6). Cells carry log-normal amounts of each antigen; a detector adds what spills over,
    autofluorescence, photon noise and electronic noise. Each sample has its own random numbers, so
    that the result is the same on any number of threads. Every visit is kept at least once per
    compartment. Files are written aside and moved at the end: a failed call leaves nothing.

    Examples
    --------
    >>> import tempfile
    >>> import cytoclust as cc
    >>> folder = cc.simulate.study(
    ...     tempfile.mkdtemp(), n_patients=3, events_per_sample=(300, 400), rng=0
    ... )
    >>> sorted(path.name for path in folder.iterdir() if path.suffix != ".fcs")
    ['panel.csv', 'samples.csv', 'truth']
    """
    target = Path(folder)
    _check_design(n_patients, visits, compartments, missing=missing)
    _check_sizes(
        events_per_sample, effect_scale=effect_scale, n_batches=n_batches, batch_sd=batch_sd
    )
    _check_shares(spillover_scale=(spillover_scale, 1.5), drift_share=(drift_share, 1.0))
    plan = _plan(
        np.random.default_rng(rng),
        names=(tuple(visits), tuple(compartments)),
        n_patients=n_patients,
        missing=missing,
        events_per_sample=events_per_sample,
        effect_scale=0.0 if null else float(effect_scale),
        staining=Staining(n_batches, batch_sd, spillover_scale),
        drift_share=drift_share,
    )
    with staged(target, overwrite=overwrite) as stage:
        drawn = _write_samples(plan, stage, n_jobs=n_jobs, progress=progress)
        write_tables(
            stage,
            plan.samples,
            drawn,
            effects=plan.effects,
            state_effects=plan.state_effects,
        )
    logger.info("simulate.study: %d samples in %s", len(plan.samples), target)
    return target


def _plan(
    rng: np.random.Generator,
    *,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    n_patients: int,
    missing: Sequence[float],
    events_per_sample: tuple[int, int],
    effect_scale: float,
    staining: Staining,
    drift_share: float,
) -> _Plan:
    """Draw samples, composition and staining; one child generator per slot draws its events."""
    visits, compartments = names
    design_rng, share_rng, staining_rng, size_rng, *generators = rng.spawn(
        4 + n_patients * len(visits) * len(compartments)
    )
    layout = composition.plan(
        design_rng,
        n_patients=n_patients,
        visits=visits,
        missing=missing,
        n_batches=staining.n_batches,
    )
    marrow = composition.is_marrow(compartments)
    changes = effects.abundance_changes(marrow, len(visits), effect_scale)
    state = effects.state_changes(marrow, len(visits), effect_scale)
    shares = composition.draw_shares(share_rng, layout, marrow=marrow, changes=changes)
    drawn = draw_staining(staining_rng, layout, staining)
    low, high = np.log(events_per_sample)
    sizes = np.rint(np.exp(size_rng.uniform(low, high, len(layout.patient)))).astype(int)
    drifting = size_rng.uniform(size=len(sizes)) < drift_share
    samples = _name_samples(layout, visits, compartments)
    settings = [
        Setting(
            int(sizes[slot]),
            shares[slot],
            drawn.shift(slot) + state[layout.compartment[slot], layout.visit[slot]],
            drawn.gain[slot],
            drawn.spillovers[layout.batch[slot]].astype(np.float32),
            bool(drifting[slot]),
        )
        for slot in (sample.slot for sample in samples)
    ]
    return _Plan(
        samples,
        settings,
        [drawn.spillovers[layout.batch[sample.slot]] for sample in samples],
        [generators[sample.slot] for sample in samples],
        effects.effects_table(changes, compartments, visits),
        state_table(state, compartments, visits),
    )


def _name_samples(
    layout: composition.Layout, visits: Sequence[str], compartments: Sequence[str]
) -> list[Sample]:
    samples = []
    digits = max(2, len(str(int(layout.patient.max()) + 1)))
    # by visit first: levels that take their order from the sheet then stand in order of time
    order = np.lexsort((layout.patient, layout.compartment, layout.visit))
    for slot in order[layout.present[order]]:
        patient = f"P{layout.patient[slot] + 1:0{digits}d}"
        compartment = compartments[layout.compartment[slot]]
        visit = visits[layout.visit[slot]]
        name = f"{patient}_{compartment}_{visit}"
        file = re.sub(r"[^\w.+-]", "-", name) + ".fcs"
        batch = f"lot{layout.batch[slot] + 1}"
        day = int(layout.day[slot])
        samples.append(Sample(name, file, patient, compartment, visit, batch, day, int(slot)))
    if len({sample.file.lower() for sample in samples}) < len(samples):
        msg = (
            f"visits {list(visits)} and compartments {list(compartments)} must give different file "
            "names when signs other than letters, digits and . + - _ are replaced; rename them."
        )
        raise ArgumentError(msg)
    return samples


def _write_samples(
    plan: _Plan, stage: Path, *, n_jobs: int | None, progress: bool
) -> list[SampleEvents]:
    """Draw and write all files; return what was drawn, without the values."""

    def make(index: int) -> SampleEvents:
        drawn = simulate_sample(plan.generators[index], plan.settings[index])
        write_sample(stage, plan.samples[index], drawn, spillover=plan.spillovers[index])
        # the values are on disk; keeping them would need the memory of the whole study
        return replace(drawn, events=np.empty((0, 0), dtype=np.float32))

    # one BLAS thread: with more, the order of additions would depend on their number
    with (
        thread_limit(n_jobs) as workers,
        threadpool_limits(limits=1),
        ThreadPoolExecutor(workers) as executor,
    ):
        results = executor.map(make, range(len(plan.samples)))
        if not progress:
            return list(results)
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        total = len(plan.samples)
        return list(track(results, "Simulating samples", total=total, console=console))


def _check_design(
    n_patients: int, visits: Sequence[str], compartments: Sequence[str], *, missing: Sequence[float]
) -> None:
    if n_patients < 1:
        msg = f"n_patients must be at least 1; got {n_patients}. Give the number of patients."
        raise ArgumentError(msg)
    for name, values in (("visits", visits), ("compartments", compartments)):
        whole = isinstance(values, str) or not values
        if whole or not all(isinstance(value, str) and value.strip() for value in values):
            msg = f"{name} must be a sequence of names; got {values!r}. Write e.g. ('a', 'b')."
            raise ArgumentError(msg)
        if len(set(values)) < len(values):
            msg = (
                f"{name} must differ from each other; got {list(values)}. Rename the repeated ones."
            )
            raise ArgumentError(msg)
    if len(missing) != len(compartments) or not all(0 <= share < 1 for share in missing):
        msg = (
            f"missing must have one share from 0 to below 1 per compartment ({len(compartments)}); "
            f"got {missing!r}. Write e.g. {tuple([0.15] * len(compartments))}."
        )
        raise ArgumentError(msg)


def _check_sizes(
    events_per_sample: tuple[int, int], *, effect_scale: float, n_batches: int, batch_sd: float
) -> None:
    if len(events_per_sample) != 2 or not 1 <= events_per_sample[0] <= events_per_sample[1]:
        msg = (
            "events_per_sample must be the smallest and the largest number of events, at least 1; "
            f"got {events_per_sample!r}. Write e.g. (2_000, 6_000)."
        )
        raise ArgumentError(msg)
    if not np.isfinite(effect_scale):
        msg = (
            f"effect_scale must be finite; got {effect_scale!r}. 1 plants the effects as designed."
        )
        raise ArgumentError(msg)
    if n_batches < 1 or not 0 <= batch_sd < np.inf:
        msg = (
            f"n_batches must be at least 1 and batch_sd finite and not negative; got {n_batches} and "
            f"{batch_sd}. Use n_batches=1 for a study without batches."
        )
        raise ArgumentError(msg)


def _check_shares(**shares: tuple[float, float]) -> None:
    for name, (value, largest) in shares.items():
        if not 0 <= value <= largest:
            msg = f"{name} must be between 0 and {largest:g}; got {value!r}. Give a number in between."
            raise ArgumentError(msg)
