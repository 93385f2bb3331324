"""From the FCS files of a clinical study to named cell populations and tested answers.

The rooms are loaded on first use, so that importing the package costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cytoclust import errors, get, io, pipeline, pl, pp, report, simulate, tl

__version__ = "0.1.0"
__all__ = ["errors", "get", "io", "pipeline", "pl", "pp", "report", "simulate", "tl"]


def __getattr__(name: str) -> object:
    """Import a room when it is first asked for (PEP 562)."""
    if name in __all__:
        return importlib.import_module(f"cytoclust.{name}")
    msg = f"module 'cytoclust' has no attribute {name!r}; it has {', '.join(__all__)}."
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
