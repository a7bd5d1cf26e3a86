"""A hub in miniature, spoken to by the real client library over HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models_backend.registry import hub, store
from models_backend.registry.errors import ChecksumMismatch, NoSpace, NotReachable, RefusedFormat, UnknownModel
from models_backend.registry.progress import Progress
from tests.registry.folders import write_model

COMMIT = "c0ffee" * 6 + "c0ff"


class Hub:
    """Serves one repository, owner/name, whose files the test may change."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.sizes: dict[str, int] = {}
        self.stated: dict[str, str] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                outer.asked.append(path)
                if path.startswith(f"/api/models/owner/name/tree/{COMMIT}"):
                    self.reply(json.dumps(outer.tree()).encode(), {"Content-Type": "application/json"})
                elif path.startswith("/api/models/owner/name"):
                    self.reply(json.dumps(outer.facts()).encode(), {"Content-Type": "application/json"})
                elif path.startswith(f"/owner/name/resolve/{COMMIT}/"):
                    body = outer.files[path.rsplit("/", 1)[1]]
                    etag = hashlib.sha256(body).hexdigest()
                    self.reply(body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
                else:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def reply(self, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def facts(self) -> dict[str, Any]:
        files = [
            {
                "rfilename": name,
                "size": self.sizes.get(name, len(body)),
                "blobId": "0" * 40,
                "lfs": {
                    "sha256": self.stated.get(name, hashlib.sha256(body).hexdigest()),
                    "size": len(body),
                    "pointerSize": 130,
                },
            }
            for name, body in self.files.items()
        ]
        return {"id": "owner/name", "sha": COMMIT, "siblings": files, "cardData": {"license": "mit"}}

    def tree(self) -> list[dict[str, Any]]:
        return [{"type": "file", "oid": "0" * 40, "path": name, "size": len(body)} for name, body in self.files.items()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    source = write_model(tmp_path / "source")
    hub = Hub({path.name: path.read_bytes() for path in source.iterdir()})
    store.root(tmp_path).mkdir()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def fetch(tmp_path: Path, server: Hub, id: str = "owner/name") -> tuple[str, str]:
    folder = tmp_path / "built"
    folder.mkdir()
    return hub.fetch(id, folder, tmp_path, lambda progress: None, endpoint=server.url)


def test_a_model_comes_with_its_commit_and_licence_but_without_pickles_and_code(tmp_path: Path, server: Hub) -> None:
    server.files |= {
        "pytorch_model.bin": b"pickle",
        "modeling.py": b"evil",
        "README.md": b"#",
        "consolidated.safetensors": b"twice",
        "onnx/config.json": b"{}",
    }
    seen: list[Progress] = []
    (tmp_path / "built").mkdir()
    got = hub.fetch("owner/name", tmp_path / "built", tmp_path, seen.append, endpoint=server.url)
    assert got == (COMMIT, "mit")
    arrived = {path.name for path in (tmp_path / "built").iterdir() if path.is_file()}
    assert arrived == {"config.json", "tokenizer.json", "model.safetensors"}
    assert not any("pytorch_model" in path or "modeling" in path for path in server.asked)
    assert seen[-1].done == seen[-1].total and seen[-1].phase == "downloading owner/name"


def test_a_model_that_has_only_pickles_is_refused_before_anything_is_fetched(tmp_path: Path, server: Hub) -> None:
    server.files["pytorch_model.bin"] = server.files.pop("model.safetensors")
    with pytest.raises(RefusedFormat, match=r"pytorch_model\.bin"):
        fetch(tmp_path, server)
    assert not any("resolve" in path for path in server.asked)


def test_a_file_that_is_not_what_the_hub_states_is_refused(tmp_path: Path, server: Hub) -> None:
    server.stated["model.safetensors"] = "0" * 64
    with pytest.raises(ChecksumMismatch, match=r"model\.safetensors"):
        fetch(tmp_path, server)


def test_a_model_too_large_for_the_disk_is_refused_before_it_is_fetched(tmp_path: Path, server: Hub) -> None:
    server.sizes["model.safetensors"] = 10**18
    with pytest.raises(NoSpace):
        fetch(tmp_path, server)
    assert not any("resolve" in path for path in server.asked)


def test_a_name_that_the_hub_does_not_know_is_unknown(tmp_path: Path, server: Hub) -> None:
    with pytest.raises(UnknownModel, match="owner/other is not on the hub"):
        fetch(tmp_path, server, "owner/other")


def test_a_hub_that_does_not_answer_is_told_with_what_to_do(tmp_path: Path, server: Hub) -> None:
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(NotReachable, match=r"owner/name.*pull PATH --as"):
        fetch(tmp_path, server)
