"""A progress bar for long work, gone when the work is done or interrupted."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress_bar", "watched"]

_watcher: ContextVar[Callable[[int, int], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Callable[[int, int], None] | None) -> Iterator[None]:
    """Let somebody who shows one bar for all know what every hidden bar of the block would show.

    Parameters
    ----------
    watcher
        Called with how much is done and how much there is to do; None for nobody.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def progress_bar(label: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show how much of `total` is done, on standard error; call what it gives with each advance."""
    watcher = _watcher.get()
    if watcher is not None:
        done = 0

        def tell(n: int) -> None:
            nonlocal done
            done += n
            watcher(done, total)

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)
