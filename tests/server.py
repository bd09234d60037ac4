"""A real HTTP server on this machine, with the faults that others show, and what it serves."""

import hashlib
import http.server
import zipfile
from io import BytesIO

import numpy as np

from utils.download import CHUNK

BODY = np.random.default_rng(0).bytes(4 * CHUNK + 123)
HALF = len(BODY) // 2


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `fault` chooses how it misbehaves; `requests` records (path, Range) and `sent` the body bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/body": BODY}
        self.fault = ""
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0

    def url(self, path: str = "/body") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with Range, and the faults of `Server.fault`."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        fault = self.server.fault
        body = self.server.files.get(self.path)
        if body is None or fault == "404":
            self.send_error(404)
            return
        if fault.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("redirect "))
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and fault != "no range" else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault != "no length":
            self.send_header("Content-Length", "many" if fault == "garbage length" else str(len(body) - start))
        self.end_headers()
        rest = body[start : HALF if fault == "truncated" else None]
        self.server.sent += len(rest)  # before the client, in its thread, can have read it all
        self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""
