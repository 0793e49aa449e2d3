"""Errors a user can act on: what happened, where, why, what to do, and the exit code of the command.

Exit codes 0-4 are fixed (0 done, 1 error, 2 usage, 3 some units failed, 4 a leak between splits); the others refine 1.
"""

from __future__ import annotations


class UncloudedError(Exception):
    """Something a user can understand and mend. Printed as at most a few lines, never as a traceback."""

    code: int = 1

    def __init__(self, what: str, *, where: object = "", why: str = "", do: str = "") -> None:
        self.what, self.where, self.why, self.do = what, str(where), why, do
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {name}: {text}" for name, text in (("where", self.where), ("why", self.why), ("do", self.do)) if text]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:  # crosses process borders with its parts
        return _rebuild, (type(self), self.what, self.where, self.why, self.do)


def _rebuild(kind: type[UncloudedError], what: str, where: str, why: str, do: str) -> UncloudedError:
    return kind(what, where=where, why=why, do=do)


class RecordError(UncloudedError, ValueError):
    """A record was built from values that cannot be right (wrong shape, counts not divided, linear power as dB)."""


class UsageError(UncloudedError):
    """The command or call was put wrongly."""

    code = 2


class SomeUnitsFailed(UncloudedError):
    """A batch is done but some of its units failed; they are listed."""

    code = 3


class LeakFound(UncloudedError):
    """Two splits of a data set share ground."""

    code = 4


class InputMissing(UncloudedError):
    """A file, band or date that is needed is not there."""

    code = 10


class InputCorrupt(UncloudedError):
    """A file is damaged: it cannot be decoded or does not match its checksum."""

    code = 11


class InputUnsupported(UncloudedError):
    """The input is sound but not what this method or reader can use (level, band, layout)."""

    code = 12


class InputsContradict(UncloudedError):
    """Inputs exclude each other (other place, other grid, offset evidence against the metadata)."""

    code = 13


class RefusedForSafety(UncloudedError):
    """The input was refused because opening it could reach outside it (disguised driver, foreign path, bomb)."""

    code = 14


class OutputFailed(UncloudedError):
    """The output cannot be written (disk full, read-only, in use). Nothing was published."""

    code = 20


class BudgetTooSmall(UncloudedError):
    """The stated memory budget cannot be met; the message names the setting that can."""

    code = 21


class VerificationFailed(UncloudedError):
    """A written product does not read back as it was written."""

    code = 23


class TryAgain(UncloudedError):
    """A passing fault; running the same command again continues."""

    code = 75
