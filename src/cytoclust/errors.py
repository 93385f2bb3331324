"""Everything cytoclust raises or warns of.

Each error is also the builtin that callers expect::

    CytoclustError (Exception)
    ├── FcsFormatError (ValueError)         a file is not what the FCS standard or its header says
    ├── StudyError (ValueError)             sample sheet, panel and files do not fit together
    ├── DesignError (ValueError)            the comparison asked for cannot be made with these samples
    ├── DefinitionError (ValueError)        a phenotype definition file is wrong
    ├── MissingSlotError (LookupError)      a verb needs what an earlier verb writes
    ├── AlreadyAppliedError (RuntimeError)  a step that must not run twice on the same data
    └── ArgumentError (ValueError)          an argument has a value that the verb cannot use

    CytoclustWarning (UserWarning)
    ├── FcsWarning                          a file was read, but something in it was odd
    ├── StudyWarning                        samples or channels differ or are left out
    └── StatisticsWarning                   a result needs care when it is read
"""

__all__ = [
    "AlreadyAppliedError",
    "ArgumentError",
    "CytoclustError",
    "CytoclustWarning",
    "DefinitionError",
    "DesignError",
    "FcsFormatError",
    "FcsWarning",
    "MissingSlotError",
    "StatisticsWarning",
    "StudyError",
    "StudyWarning",
]


class CytoclustError(Exception):
    """Base of every error that cytoclust raises on purpose."""


class FcsFormatError(CytoclustError, ValueError):
    """A file cannot be decoded; the text names file, segment and keyword."""


class StudyError(CytoclustError, ValueError):
    """Sample sheet, panel and event files do not fit together."""


class DesignError(CytoclustError, ValueError):
    """The comparison asked for cannot be made with these samples."""


class DefinitionError(CytoclustError, ValueError):
    """A phenotype definition file is wrong; the text names line and key."""


class MissingSlotError(CytoclustError, LookupError):
    """A verb needs a slot of the AnnData that an earlier verb writes."""


class AlreadyAppliedError(CytoclustError, RuntimeError):
    """A step was asked for twice on the same data."""


class ArgumentError(CytoclustError, ValueError):
    """An argument has a value that the verb cannot use."""


class CytoclustWarning(UserWarning):
    """Base of every warning that cytoclust gives."""


class FcsWarning(CytoclustWarning):
    """A file was read, but something in it was odd."""


class StudyWarning(CytoclustWarning):
    """Samples or channels differ or are left out."""


class StatisticsWarning(CytoclustWarning):
    """A result needs care when it is read."""
