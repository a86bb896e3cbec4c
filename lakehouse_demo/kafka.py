"""Kafka as a private broker: one process in KRaft mode, which Java runs and whose jars Maven fetches once from Maven Central.

It listens on the loopback address only. Its data, log and ports live in one folder, and outlive the process.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lakehouse_assets.extras import package
from lakehouse_demo.java import JavaUnavailable, home_of, jars_of, java_tool, locked
from lakehouse_demo.private_server import (
    HOST,
    POLL_S,
    TIMEOUT_S,
    ServerFailed,
    ServerMissing,
    free_port,
    is_locked,
    write_private,
)

HOME_VARIABLE: Final = "LAKEHOUSE_KAFKA_HOME"
POM: Final = Path(__file__).with_name("kafka.pom.xml")
STOP_S: Final = 60
JVM: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_CONFIGURATION: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
log.retention.ms=-1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
"""


def broker_command() -> list[str]:
    """What runs a program of the broker's jars, which are fetched if need be. Raises ServerMissing."""
    java = java_tool("java")
    if java is None:
        raise ServerMissing(
            "Kafka needs Java 17 or newer, and there is no program java in $JAVA_HOME or on the path; install Debian's"
            " packages openjdk-17-jre-headless and maven (which fetches the broker)"
        )
    home = home_of(HOME_VARIABLE, ".kafka")
    try:
        with locked(home):
            return [str(java), *JVM, "-cp", f"{jars_of(POM, home)}/*"]
    except JavaUnavailable as error:
        raise ServerMissing(f"Kafka's broker cannot be had: {error}; install Debian's package maven") from error


class KafkaServer:
    """A broker in a folder of its own."""

    def __init__(self, folder: Path | str) -> None:
        """``folder``: its own; nothing is done yet."""
        self.folder = Path(folder).absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        """Where it listens. REQUIRES: it was started once."""
        return f"{HOST}:{self._kept()['port']}"

    def start(self) -> None:
        """Make the folder's broker run, and wait until it answers. Raises ServerMissing and ServerFailed."""
        command = broker_command()
        if not self._data_in_use():
            self._prepare(command)
            with open(self.folder / "broker.log", "ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own configuration
                    [*command, "kafka.Kafka", str(self.folder / "server.properties")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    start_new_session=True,
                )
            write_private(self.folder / "server.json", json.dumps({**self._kept(), "pid": self._process.pid}))
        self.wait_for()

    def stop(self) -> None:
        """Shut it down, and wait for its end; nothing happens if it does not run.

        One that has not ended after a while is killed: what it acknowledged stands in its log.
        """
        if not self._data_in_use():
            return
        process = self._kept()["pid"]
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while self._data_in_use():
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(POLL_S)
        if self._process is not None:
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _prepare(self, command: list[str]) -> None:
        """Choose free ports, write the configuration, and format the data directory if it is new."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        known = self._kept() if (self.folder / "server.json").exists() else {}
        ports = {name: free_port(known.get(name, 0)) for name in ("port", "controller")}
        cluster = known.get("cluster") or base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        write_private(self.folder / "server.json", json.dumps({**ports, "cluster": cluster}))
        configuration = _CONFIGURATION.format(host=HOST, data=self.folder / "data", **ports)
        write_private(self.folder / "server.properties", configuration)
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster]
        done = subprocess.run(  # noqa: S603 - our own configuration
            [*command, *tool, "-c", str(self.folder / "server.properties")],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"the data of the broker in {self.folder} cannot be made:\n{done.stdout}{done.stderr}")

    def _kept(self) -> Mapping[str, Any]:
        settings: Mapping[str, Any] = json.loads((self.folder / "server.json").read_text())
        return settings

    def wait_for(self, topics: Collection[str] = ()) -> None:
        """Wait until it answers, and somebody leads every partition of its topics and of some that must be there.

        Raises ServerFailed.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not self._answers(topics):
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise ServerFailed(f"the broker in {self.folder} does not come up:\n{self._log()}")
            time.sleep(POLL_S)

    def _answers(self, topics: Collection[str]) -> bool:
        kafka = package("confluent_kafka", extra="kafka")
        admin = package("confluent_kafka.admin", extra="kafka")
        try:
            found = admin.AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=1)
        except kafka.KafkaException:
            return False
        led = {
            name
            for name, topic in found.topics.items()
            if topic.partitions and all(each.leader in found.brokers for each in topic.partitions.values())
        }
        return led.issuperset(found.topics) and led.issuperset(topics)

    def _data_in_use(self) -> bool:
        """Whether a server, of whatever process, works on the data."""
        return is_locked(self.folder / "data" / ".lock")

    def _log(self) -> str:
        path = self.folder / "broker.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""
