"""The whole way from files to tested answers; the only place where the order of steps is written."""

from cytoclust.pipeline.running import open_run, run

__all__ = ["open_run", "run"]
