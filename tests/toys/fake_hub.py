"""A Hugging Face hub on this computer, as far as one repository is pushed to it and loaded from it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_COMMIT = "1" * 40


class FakeHub(ThreadingHTTPServer):
    """Knows one repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.requests: list[tuple[str, str]] = []
        """Methods and paths"""
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    @property
    def variables(self) -> dict[str, str]:
        """That lead the hub's library here"""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server_address[1]}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_nobody",
            "TRUST_REMOTE_CODE": "True",
            "NO_PROXY": "127.0.0.1",
        }


class _Answers(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Not to standard error."""

    def _answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": _COMMIT, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, answer: dict[str, Any] | list[Any], status: int = 200) -> None:
        self._answer(json.dumps(answer).encode(), status, Content_Type="application/json")

    def _url(self, *parts: str) -> str:
        return "/".join((self.server.variables["HF_ENDPOINT"], *parts))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append((self.command, path))
        if "/resolve/" in path:
            self._file(path.split("/resolve/")[1].split("/", 1)[1])
        elif path == "/api/whoami-v2":
            self._json({"name": "somebody", "orgs": []})
        elif "/tree/" in path:
            files = self.server.files.items()
            self._json([{"type": "file", "path": name, "size": len(content), "oid": "0" * 40} for name, content in files])
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in self.server.files]
            self._json({"_id": "1", "id": "/".join(path.split("/")[3:5]), "sha": _COMMIT, "siblings": siblings})
        else:
            self._json({"error": f"no {path}"}, 404)

    def _file(self, name: str) -> None:
        content = self.server.files.get(name)
        if content is None:
            self._answer(b"", 404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
        else:
            self._answer(content, ETag=f'"{sha1(content).hexdigest()}"')

    def do_POST(self) -> None:
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.requests.append((self.command, path))
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._json({"url": self._url(self.server.created[-1]["organization"], self.server.created[-1]["name"])})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json({"commitUrl": self._url(*path.split("/")[3:5], "commit", _COMMIT), "commitOid": _COMMIT})
        else:
            self._json({})


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
