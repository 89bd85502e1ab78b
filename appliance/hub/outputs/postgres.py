"""PostgreSQL and TimescaleDB: a row for each alert in a table of our own.

Comes in: batches. Goes out: one transaction for each. Never: a value inside the text of a statement, or a second row
for an alert that comes again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.config.settings import Secret
from appliance.hub.alert import HubAlert, JsonValue
from appliance.hub.options import option
from appliance.hub.outputs.base import Client, Outcome, Verdict
from appliance.hub.outputs.queues import TlsOptions, done
from appliance.hub.outputs.table import Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PostgresOptions(TlsOptions):
    """Which database and table."""

    host: str = option(doc="Server.", example="db.example.org")
    port: int = option(5432, "Port.", minimum=1, maximum=65535)
    database: str = option("falcosidekick", "Database.")
    user: str = option("postgres", "User.")
    password: Secret = option(Secret(""), "Password.")
    hypertablename: str = option("falco_events", "Table; it is made where it is missing.")
    hypertable: bool = option(False, "Make it a hypertable of TimescaleDB.")


class PostgresClient(Client):
    """Keeps one connection; the table is made when the first batch comes."""

    def __init__(self, options: PostgresOptions) -> None:
        import psycopg
        from psycopg import sql

        self._pg: Any = psycopg
        self._sql = sql
        self._options = options
        self._connection: Any = None

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            options = self._options
            mode = ("verify-full" if options.checkcert else "require") if options.tls else "prefer"
            files = {"sslrootcert": options.ca_file, "sslcert": options.client_cert, "sslkey": options.client_key}
            self._connection = await self._pg.AsyncConnection.connect(
                host=options.host,
                port=options.port,
                dbname=options.database,
                user=options.user,
                password=str(options.password) or None,
                connect_timeout=10,
                application_name="tercel",
                sslmode=mode,
                **{name: str(path) for name, path in files.items() if path},
            )
            await self._make_table(self._connection)
        return self._connection

    async def _make_table(self, connection: Any) -> None:
        """`id` and `time` are the key: TimescaleDB wants the time in every unique one."""
        name = self._sql.Identifier(*self._options.hypertablename.split("."))
        statement = self._sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} ("
            "time timestamptz NOT NULL, time_ns bigint NOT NULL, id text NOT NULL, rule text NOT NULL,"
            " priority text NOT NULL, source text NOT NULL, hostname text NOT NULL, tags text[] NOT NULL,"
            " output text NOT NULL,"
            " output_fields jsonb NOT NULL, PRIMARY KEY (time, id))"
        ).format(name)
        async with connection.transaction():
            await connection.execute(statement)
            if self._options.hypertable:
                await connection.execute(
                    "SELECT create_hypertable(%s, 'time', if_not_exists => TRUE)", (self._options.hypertablename,)
                )

    async def send(self, batch: Sequence[HubAlert]) -> Outcome:
        """Insert them in one transaction."""
        name = self._sql.Identifier(*self._options.hypertablename.split("."))
        statement = self._sql.SQL(
            "INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(name)
        try:
            connection = await self._connected()
            async with connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(statement, [_row(alert) for alert in batch])
        except (self._pg.DataError, self._pg.errors.ProgramLimitExceeded) as error:
            return Outcome((Verdict.NEVER,) * len(batch), str(error).splitlines()[0][:200])
        except self._pg.Error as error:
            await self.close()
            raise OSError(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error
        except BaseException:
            await self.close()
            raise
        return done(batch)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _row(alert: HubAlert) -> tuple[Any, ...]:
    """The columns. PostgreSQL has no U+0000 in texts: it becomes U+2400, its picture."""
    when = _EPOCH + timedelta(microseconds=alert.ts_ns // 1000)
    texts = [alert.id, alert.rule, alert.priority.label, alert.source, alert.hostname]
    fields = json.dumps(_clean_value(alert.fields), ensure_ascii=False, default=str)
    tags = [_clean(tag) for tag in alert.tags]
    return (when, alert.ts_ns, *map(_clean, texts), tags, _clean(alert.output), fields)


def _clean(text: str) -> str:
    return text.replace("\x00", "\u2400").encode(errors="replace").decode()


def _clean_value(value: JsonValue) -> JsonValue:
    """A value of JSON with each text and each name in it clean."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_clean(name): _clean_value(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_clean_value(item) for item in value]
    return value


KINDS = (
    Kind(
        name="timescaledb",
        title="PostgreSQL, TimescaleDB",
        category="Database",
        extra="hub-postgres",
        options=PostgresOptions,
        connect=PostgresClient,
        batch=lambda options: 200,
        doc="A row for each alert, its fields as JSONB; the table is made where it is missing.",
        delivered="The transaction was committed. An alert that comes again makes no second row.",
    ),
)
