"""``Identifier``: the name of a table, of a branch of it, or of one of its system tables.

Spec: ``database.table``, ``database.table$branch_name``, ``database.table$system`` and both together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from storage_engine.errors import InvalidInput

DEFAULT_DATABASE = "default"
_BRANCH_PREFIX = "branch_"
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f/\\.$*?\[\]{}#%:|<>"'`]""")
_MAX_NAME_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """What a name stands for. ``branch`` None is the main branch; ``system`` is such as ``snapshots``."""

    database: str
    table: str
    branch: str | None = None
    system: str | None = None

    def __str__(self) -> str:
        branch = "" if self.branch is None else f"${_BRANCH_PREFIX}{self.branch}"
        system = "" if self.system is None else f"${self.system}"
        return f"{self.database}.{self.table}{branch}{system}"

    @property
    def full_name(self) -> str:
        """``database.table``."""
        return f"{self.database}.{self.table}"

    @staticmethod
    def parse(text: str, *, database: str = DEFAULT_DATABASE) -> Identifier:
        """Read ``table`` (in ``database``) or ``database.table``, with ``$branch_name`` and ``$system``.

        Raises InvalidInput for a name that cannot be one.
        """
        path, *suffixes = text.split("$")
        first, dot, second = path.rpartition(".")
        found = Identifier(database=first if dot else database, table=second)
        check_name(found.database, "database", shown=text)
        check_name(found.table, "table", shown=text)
        branch, system = None, None
        if suffixes and suffixes[0].startswith(_BRANCH_PREFIX):
            branch = suffixes.pop(0).removeprefix(_BRANCH_PREFIX)
        if suffixes:
            system = suffixes.pop(0).lower()
        if suffixes or branch == "" or system == "":
            raise InvalidInput(
                f"{text!r} is not the name of a table: expected database.table, perhaps with $branch_name or $system_table"
            )
        return Identifier(database=found.database, table=found.table, branch=branch, system=system)


def check_name(name: str, what: str, *, shown: str | None = None) -> None:
    """Refuse the name of a database or table that could not be a directory. Raises InvalidInput."""
    in_what = "" if shown in (None, name) else f" (in {shown!r})"
    if not name or name != name.strip() or _UNSAFE.search(name) or len(name.encode()) > _MAX_NAME_BYTES:
        raise InvalidInput(
            f"{name!r}{in_what} cannot be the name of a {what}: expected 1 to {_MAX_NAME_BYTES} bytes without slashes, dots, '$',"
            " quotes and wildcards"
        )
