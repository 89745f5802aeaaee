"""DuckDB as the engine: within this process, with nothing of this machine but the dataset's rows in its reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ctobserve.documents.fleet import Answer, Value
from ctobserve.errors import KernelLacks, by_pip
from ctobserve.fleet.arrow import tables
from ctobserve.fleet.engine import Failed, Refused, answer, complaint
from ctobserve.fleet.listing import Listing
from ctobserve.fleet.questions import SPANS, statement
from ctobserve.host import files
from ctobserve.model import printable

TOGETHER = 1000  # rows that come at once
# All that leads out: files, the network, extensions, secrets in the home directory, variables of this program.
CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
}


class Duck:
    """One connection; its views are made, and it is locked."""

    def __init__(self, library: Any, connection: Any) -> None:
        self._library, self._connection = library, connection

    @property
    def name(self) -> str:
        """With its version."""
        return f"duckdb {self._library.__version__}"

    def ask(self, sql: str, values: Mapping[str, Value], most: int) -> Answer:
        """The first `most` rows of one query."""
        try:
            statements = self._connection.extract_statements(sql)
        except self._library.Error as error:
            raise Refused(f"DuckDB: {complaint(error)}") from None
        # A query alone: INSTALL would ask the network, whatever is locked.
        if len(statements) != 1 or statements[0].type != self._library.StatementType.SELECT:
            raise Refused("the SQL is not one query; give a single SELECT")
        wanted = statements[0].named_parameters
        if wanted != set(values):
            raise Refused(f"the SQL has the parameters {_names(wanted)}, and was given {_names(values)}; give each by --set")
        library = self._library
        try:
            result = self._connection.execute(statements[0], dict(values))
            return answer([column[0] for column in result.description], _rows(result), most)
        except (library.BinderException, library.CatalogException, library.DataError, library.PermissionException) as error:
            raise Refused(f"DuckDB: {complaint(error)}") from None
        except library.OutOfMemoryException as error:
            raise Failed(f"DuckDB: {complaint(error)}; give it more by --memory, or ask of fewer days by --since") from None
        except (library.Error, OSError) as error:
            raise Failed(f"DuckDB: {complaint(error)}") from None


@contextmanager
def opened(found: Listing, memory_mib: int) -> Iterator[Duck]:
    """With the dataset's tables as views; beyond so much memory it writes to a directory that is gone afterwards.

    Raises KernelLacks where DuckDB is not installed.
    """
    library = _library()
    with files.passing_directory() as directory:
        config = {**CLOSED, "memory_limit": f"{memory_mib}MiB", "temp_directory": directory, "extension_directory": directory}
        connection = library.connect(":memory:", config=config)
        try:
            for table, dataset in tables(found).items():
                connection.register(table, dataset)
            connection.execute(f"CREATE TEMP VIEW {SPANS} AS {statement(SPANS)}")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield Duck(library, connection)
        finally:
            connection.close()


def _rows(result: Any) -> Iterator[tuple[Any, ...]]:
    while some := result.fetchmany(TOGETHER):
        yield from some


def _names(of: Iterable[str]) -> str:
    return ", ".join(map(printable, sorted(of))) or "none"


def _library() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise KernelLacks(
            f"DuckDB cannot be had here ({error}); install it with: {by_pip('fleet')}, or give --engine spark"
        ) from None
    return duckdb
