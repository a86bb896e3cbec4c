"""A run that a server refuses: its password is in no event, no log, no file of Dagster's and no snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource, PostgresResource
from lakehouse_assets.sink_assets import sink_key
from lakehouse_assets.sinks import PostgresSink, Sink
from lakehouse_assets.stream_assets import stream_key
from lakehouse_demo.postgres import installed
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL
from tests.servers.postgres import USER, PostgresServer

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not installed(), reason="PostgreSQL's server is not installed"),
]

WRONG = "sesame-that-must-not-show"
DDL = f"""{QUARANTINE_DDL}
CREATE TABLE IF NOT EXISTS ods.item (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def test_a_refused_password_shows_nowhere_and_the_run_says_what_to_do(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for variable in ("LAKEHOUSE_POSTGRES_PASSWORD", "LAKEHOUSE_SINK_PASSWORD"):
        monkeypatch.setenv(variable, WRONG)
    lakehouse = LakehouseResource(warehouse=str(tmp_path / "warehouse"), ddl=DDL)
    changes = PostgresResource(port=str(server.port), user=USER, database="postgres")
    sink = Sink(table="ods.item", to=PostgresSink(port=server.port, user=USER))
    ingestion = Ingestion(source_table="item", target="ods.item", added=())
    project = Project(name="shop", ddl=DDL, ingestions=(ingestion,), sinks=(sink,))
    definitions = project.definitions(lakehouse, changes)
    lakehouse.table("ods.item").write(pl.DataFrame({"id": [1], "name": ["a"]}, schema_overrides={"id": pl.Int32}))
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        for key in (stream_key("ods.item"), sink_key(sink)):
            result = job.execute_in_process(asset_selection=[key], instance=instance, raise_on_error=False)
            assert not result.success
            events = "\n".join(str(record) for record in instance.all_logs(result.run_id))
            assert "SourceAccessDenied" in events
            assert "the server refuses the user or its password" in events
            assert WRONG not in events
        for sensor in definitions.sensors or ():
            with (
                dg.build_sensor_context(instance=instance, resources=definitions.resources) as context,
                pytest.raises(PermissionError) as told,
            ):
                sensor(context)
            assert WRONG not in str(told.value)
    out, err = capfd.readouterr()
    assert WRONG not in out + err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("runs" in path.name for path in written)
    assert [path for path in written if WRONG.encode() in path.read_bytes()] == []
    assert WRONG not in repr(changes) + repr(sink) + repr(changes.source().__dict__)
