"""Resources hold names of secrets, never secrets, and one process opens a warehouse once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.definitions import changes_of
from lakehouse_assets.resources import KafkaResource, LakehouseResource, LandingResource, MariaDbResource
from storage_engine.errors import InvalidInput

SECRET = "s3cr3t-value"


def test_a_secret_is_looked_up_when_the_warehouse_is_opened_and_stands_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_TOKEN", SECRET)
    resource = LakehouseResource(warehouse="memory://with-secret", secret_options={"token": "LAKE_TOKEN"})
    catalog = resource.catalog()
    shown = [repr(resource), str(resource), resource.model_dump_json(), repr(catalog), str(resource.to_config_schema())]
    assert not any(SECRET in text for text in shown)


def test_a_secret_that_is_not_set_is_told_by_name() -> None:
    resource = LakehouseResource(warehouse="memory://without", secret_options={"token": "LAKE_TOKEN_NOT_SET"})
    with pytest.raises(InvalidInput, match="LAKE_TOKEN_NOT_SET"):
        resource.catalog()
    with pytest.raises(InvalidInput, match="NO_SUCH_PASSWORD"):
        MariaDbResource(password_variable="NO_SUCH_PASSWORD").source()


def test_a_password_is_in_no_text_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_MARIADB_PASSWORD", SECRET)
    resource = MariaDbResource(host="db.example", user="reader")
    source = resource.source()
    assert SECRET not in repr(resource) + source.name + repr(source)
    assert source.name == "MariaDB db.example:3306/sales"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"format": "xml"}, "Kafka format 'xml' is unknown; known: json"),
        ({"start": "yesterday"}, "neither earliest, latest nor an ISO time"),
        ({"settings": {"sasl.password": SECRET}}, "give it by an environment variable"),
        ({"secret_settings": {"sasl.password": "NO_SUCH_PASSWORD"}}, "NO_SUCH_PASSWORD is not set"),
        ({"format": "avro", "registry": "http://x", "registry_password_variable": "NO_SUCH"}, "NO_SUCH is not set"),
    ],
)
def test_a_wrong_kafka_resource_is_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as error:
        KafkaResource(**settings).source()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ("kafka", "Kafka 127.0.0.1:9092"),
        ("mariadb", "MariaDB 127.0.0.1:3306/sales"),
        ("mysql", "MySQL 127.0.0.1:3306/sales"),
        ("postgres", "PostgreSQL 127.0.0.1:5432/sales"),
        ("files", "landing folder"),
    ],
)
def test_the_environment_chooses_the_source(monkeypatch: pytest.MonkeyPatch, chosen: str, name: str) -> None:
    for server in ("KAFKA", "MARIADB", "MYSQL", "POSTGRES"):
        monkeypatch.setenv(f"LAKEHOUSE_{server}_PASSWORD", SECRET)
    source = changes_of({"LAKEHOUSE_SOURCE": chosen, "LAKEHOUSE_KAFKA_USER": "reader"}).source()
    assert source.name.startswith(name)
    assert SECRET not in repr(source) + repr(vars(source))


def test_an_unknown_source_is_told() -> None:
    with pytest.raises(InvalidInput, match="known: files, kafka, mariadb, mysql, postgres"):
        changes_of({"LAKEHOUSE_SOURCE": "carrier pigeon"})


def test_one_process_opens_a_warehouse_once(tmp_path: Path) -> None:
    resources = [LakehouseResource(warehouse=str(tmp_path)) for _ in range(2)]
    assert resources[0].catalog() is resources[1].catalog()
    assert LakehouseResource(warehouse=str(tmp_path / "other")).catalog() is not resources[0].catalog()


def test_a_landing_folder_names_itself(tmp_path: Path) -> None:
    assert LandingResource(folder=str(tmp_path)).source().name == f"landing folder {tmp_path}"
