"""A proxy before an S3 server that loses answers: the work is done, and nobody is told."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

FAULTS = ("answer lost", "", "500 behind", "", "503 before", "")
_ALONG_THE_WAY = {"connection", "keep-alive", "transfer-encoding"}


class LossyProxy(ThreadingHTTPServer):
    """Passes requests on, but for every second creation of a snapshot. ``met`` counts what was done to them."""

    daemon_threads = True

    def __init__(self, backend: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = backend.removeprefix("http://")
        self.met: Counter[str] = Counter()
        self._faults = cycle(FAULTS)
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault_of(self, method: str, path: str) -> str:
        if method != "PUT" or "/snapshot/snapshot-" not in path:
            return ""
        with self._lock:
            fault = next(self._faults)
            self.met[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LossyProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault_of(self.command, self.path)
        if fault == "503 before":
            self._answer(503, [], b"")
            return
        backend = http.client.HTTPConnection(self.server.backend, timeout=60)
        try:
            backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                backend.putheader(name, value)  # Host as the client signed it
            backend.endheaders(body)
            response = backend.getresponse()
            content = response.read()
            kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _ALONG_THE_WAY]
        finally:
            backend.close()
        if fault == "answer lost":
            self.close_connection = True
        elif fault == "500 behind":
            self._answer(500, [], b"")
        else:
            self._answer(response.status, kept, content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


for _method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler._pass_on)


@contextmanager
def lossy_proxy(backend: str) -> Iterator[LossyProxy]:
    """Runs a proxy for the length of the block."""
    with LossyProxy(backend) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
