"""The command line: ``cytoclust init | design | inspect | run | report | map | demo``.

Exit codes: 0 done, 1 the input or the output folder is not as it must be, 2 the command line is
wrong, 3 no contrast of the design can be tested, 4 an error that cytoclust should not make,
130 interrupted.
"""

from cytoclust.cli.commands import app, main

__all__ = ["app", "main"]
