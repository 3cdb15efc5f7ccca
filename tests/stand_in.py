"""A stand-in for the two hubs on this machine: as much of their interfaces as the clients use."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RPC = "/api/v1/models.ModelApiService/"
STORAGE = "/storage/"


class Asked(NamedTuple):
    """A request that came; names of headers in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Fault(NamedTuple):
    """What happens to requests whose path or body holds `where`.

    `status` is answered; 200 cuts the answer off after `cut` bytes, where it stays if it `hangs`.
    It happens `times` times.
    """

    where: str
    status: int
    headers: dict[str, str] = {}  # noqa: RUF012
    cut: int = 0
    times: int = 10**6
    message: str = "no"
    hangs: bool = False


class StandIn:
    """Models by name, and what became of asking for them.

    Names of Hugging Face are org/name, those of Kaggle owner/model/framework/variation/version.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.url = ""
        self.page_size = 100
        self.over = threading.Event()

    def fault(self, said: str) -> Fault | None:
        for number, fault in enumerate(self.faults):
            if fault.where in said and fault.times:
                self.faults[number] = fault._replace(times=fault.times - 1)
                return fault
        return None

    def fetched(self) -> list[str]:
        """Names of the files that were sent, in order."""
        paths = [unquote(asked.path) for asked in self.asked if asked.method == "GET"]
        mark = re.compile(rf"/resolve/{COMMIT}/(.+)|{STORAGE}.+?//(.+)")
        return [found[1] or found[2] for path in paths if (found := mark.search(path))]


@contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in that answers at its `url` until the end of the block."""
    hub = StandIn()

    class Handler(_Handler):
        stand_in = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer({})

    def do_GET(self) -> None:  # noqa: N802
        self._answer({})

    def do_POST(self) -> None:  # noqa: N802
        length = int(self.headers.get("Content-Length", 0))
        self._answer(json.loads(self.rfile.read(length) or b"{}"))

    def _answer(self, body: dict[str, Any]) -> None:
        hub = self.stand_in
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.asked.append(Asked(self.command, self.path, headers, body))
        fault = hub.fault(f"{self.path} {json.dumps(body)}")
        if fault is not None and fault.status != 200:
            said = json.dumps({"code": fault.status, "message": fault.message}).encode()
            return self._send(fault.status, said, {**fault.headers, **_JSON})
        path = unquote(urlsplit(self.path).path)
        if path.startswith(RPC):
            return self._kaggle(path.removeprefix(RPC), body, fault)
        if path.startswith(STORAGE):
            return self._storage(path.removeprefix(STORAGE), fault)
        return self._hugging_face(path, fault)

    def _hugging_face(self, path: str, fault: Fault | None) -> None:
        listed = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        name = (listed or file or [None, ""])[1]
        files = self.stand_in.models.get(name)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", **_JSON})
        if listed and listed[3] not in (None, "main", "v1", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", **_JSON})
        if listed and listed[2] == "tree":
            tree = [{"type": "file", "path": f, **_facts(data)} for f, data in files.items()]
            return self._send(200, json.dumps(tree).encode(), _JSON)
        if listed:
            siblings = [
                {"rfilename": f, "blobId": _facts(data)["oid"], **_facts(data)}
                for f, data in files.items()
            ]
            found = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
            return self._send(200, json.dumps(found).encode(), _JSON)
        assert file is not None
        facts = _facts(files[file[2]])
        etag = facts.get("lfs", {}).get("oid") or facts["oid"]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        return self._send_part(files[file[2]], headers, fault)

    def _kaggle(self, call: str, body: dict[str, Any], fault: Fault | None) -> None:
        framework = body["framework"].removeprefix("MODEL_FRAMEWORK_").lower()
        name = f"{body['ownerSlug']}/{body['modelSlug']}/{framework}/{body['instanceSlug']}/"
        known = [number for number in self.stand_in.models if number.startswith(name)]
        if call == "GetModelInstance" and known:
            newest = max(int(number.removeprefix(name)) for number in known)
            return self._send(200, json.dumps({"versionNumber": newest}).encode(), _JSON)
        files = self.stand_in.models.get(f"{name}{body.get('versionNumber')}")
        if files is None:
            return self._send(404, b'{"code": 404, "message": "Not found"}', _JSON)
        if call == "ListModelInstanceVersionFiles":
            start = int(body.get("pageToken") or 0)
            end = start + self.stand_in.page_size
            rows = [{"name": f, "size": len(data)} for f, data in files.items()]
            more = str(end) if end < len(rows) else ""
            said = {"files": rows[start:end], "nextPageToken": more}
            return self._send(200, json.dumps(said).encode(), _JSON)
        place = f"{STORAGE}{name}{body['versionNumber']}//{body['path']}"
        return self._send(302, b"", {"Location": place})

    def _storage(self, path: str, fault: Fault | None) -> None:
        name, _, file = path.partition("//")
        data = self.stand_in.models[name][file]
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        return self._send_part(data, {"X-Goog-Hash": f"md5={md5}"}, fault)

    def _send_part(self, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        if part:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Accept-Ranges"] = "bytes"
        self._send(206 if part else 200, data[start:], headers, fault)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: fault.cut] if fault else data)
        if fault:
            self.close_connection = True
            if fault.hangs:
                self.stand_in.over.wait()


_JSON = {"Content-Type": "application/json"}


def _facts(data: bytes) -> dict[str, Any]:
    """As the hub lists a file; from 100 bytes on it is stored by its sha256."""
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    facts: dict[str, Any] = {"size": len(data), "oid": oid}
    if len(data) >= 100:
        sha256 = hashlib.sha256(data).hexdigest()
        facts["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 130}
    return facts
