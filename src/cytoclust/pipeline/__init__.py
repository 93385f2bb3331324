"""The whole way from files to tested answers; the only place where the order of steps is written."""

from cytoclust.pipeline.running import open_run, run
from cytoclust.pipeline.steps import prepare

__all__ = ["open_run", "prepare", "run"]
