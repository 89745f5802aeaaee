"""Spark as the engine: by PySpark, on this machine or on a cluster, reading the same files itself."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctobserve.documents.fleet import Answer, Value
from ctobserve.errors import KernelLacks, by_pip
from ctobserve.fleet.arrow import WHERE
from ctobserve.fleet.engine import Failed, Refused, answer, complaint
from ctobserve.fleet.listing import File, Listing
from ctobserve.fleet.questions import SPANS, statement
from ctobserve.fleet.schema import COLUMNS, TABLES
from ctobserve.host import executables, files
from ctobserve.render.flat import Column

MASTER = "local[*]"
# As DuckDB has it: names in double quotes, an error where a number cannot be; and days stay texts.
ALIKE = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
}
# Nothing is kept, nothing listens that nobody asked for, and SQL reads no other files.
CLOSED = {
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.runSQLOnFiles": "false",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.eventLog.enabled": "false",
}
# What it logs is for who runs Spark; what it raises is told here. Where there is no appender at all Spark has its own settings.
QUIET = """rootLogger.level = OFF
rootLogger.appenderRef.none.ref = none
appender.none.type = Null
appender.none.name = none
"""
# Texts, names and comments, in which a `$` is none of ours; then a parameter.
PIECE = re.compile(r"""('(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/)|\$(\w+)""", re.DOTALL)


class Spark:
    """One session, with the dataset's tables as views."""

    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """With its version."""
        return f"spark {self._session.version}"

    def ask(self, sql: str, values: Mapping[str, Value], most: int) -> Answer:
        """The first `most` rows of one query."""
        from py4j.protocol import Py4JError
        from pyspark.errors import AnalysisException, ParseException, PySparkException

        text = named(sql).rstrip().rstrip(";")
        try:
            # A query alone: a statement could write.
            self._session._jsparkSession.sessionState().sqlParser().parseQuery(text)
            asked = self._session.sql(text, args=dict(values))
            rows = asked.limit(most + 1).collect()
        except (ParseException, AnalysisException) as error:
            raise Refused(f"Spark: {_complaint(error)}") from None
        except (PySparkException, Py4JError) as error:
            raise Failed(f"Spark: {_complaint(error)}") from None
        return answer(asked.columns, iter(rows), most)


def named(sql: str) -> str:
    """With `$name`, as the questions have parameters, as Spark has them: `:name`."""
    return PIECE.sub(lambda found: found[1] or f":{found[2]}", sql)


@contextmanager
def opened(found: Listing, master: str) -> Iterator[Spark]:
    """With the dataset's tables as views; Spark ends with the block.

    Raises KernelLacks where there is no PySpark or no Java, Failed where it cannot start or read.
    """
    sql = _library()
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    for logger in ("py4j", "SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    with files.passing_directory() as directory:
        session = None
        try:
            session = _started(sql, master, directory)
            for table in TABLES:
                _table(session, found, table).createOrReplaceTempView(table)
            session.sql(statement(SPANS)).createOrReplaceTempView(SPANS)
            yield Spark(session)
        except (PySparkException, Py4JError) as error:
            raise Failed(f"Spark: {_complaint(error)}") from None
        finally:
            if session is not None:
                session.stop()


def _started(sql: Any, master: str, directory: str) -> Any:
    """A session whose every file of its own is in the directory; what others log before it is told to be quiet as well."""
    logs = Path(directory) / "log4j2.properties"
    with files.directory(Path(directory)) as within:
        files.create(logs.name, within, QUIET.encode())
    if master.startswith("local"):
        # Else it asks what this host's own name means, fails where nobody knows, and listens there for workers that are all here.
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = sql.SparkSession.builder.master(master).appName("ctobserve fleet")
    own = {
        "spark.local.dir": directory,
        "spark.sql.warehouse.dir": f"file:{directory}/warehouse",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{logs}",
    }
    for name, value in {**ALIKE, **CLOSED, **own}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _table(session: Any, found: Listing, table: str) -> Any:
    """The files of one table; what their columns are is known, so none is asked for it."""
    schema = ", ".join(map(_declared, (*COLUMNS[table], *WHERE)))
    there = found.files.get(table, ())
    if not there:
        return session.createDataFrame([], schema)
    reader = session.read.schema(schema).option("basePath", _uri(found.system.type_name, _folder(there[0])))
    return reader.parquet(*(_uri(found.system.type_name, file.path) for file in there))


def _folder(file: File) -> str:
    """The table's, in which the days are."""
    return file.path.rsplit("/", 3)[0]


def _uri(kind: str, path: str) -> str:
    """As Hadoop has it: s3 is its s3a."""
    return {"local": "file:", "s3": "s3a://"}.get(kind, f"{kind}://") + path


def _declared(column: Column) -> str:
    kinds = {int: "BIGINT", float: "DOUBLE", str: "STRING"}
    return f"`{column.name}` {kinds[column.form]}"


def _complaint(error: Exception) -> str:
    """Without the trace of its Java."""
    return complaint(Exception(str(error).partition("JVM stacktrace")[0].partition("\n\tat ")[0]))


def _library() -> Any:
    try:
        from pyspark import sql
    except ImportError as error:
        raise KernelLacks(
            f"PySpark cannot be had here ({error}); install it with: {by_pip('spark')}, or give --engine duckdb"
        ) from None
    if executables.trusted("java") is None:
        raise KernelLacks("Spark runs in Java, which is not here; install it with: apt-get install default-jre-headless")
    return sql
