"""Which servers there are: what is wrong in their list is named, and keys stay where they are."""

import json

import pytest

from models_backend.config import Settings
from models_backend.engine import EngineError
from models_backend.remote.upstreams import address, read_remotes


def settings(tmp_path, **facts):
    return Settings(home=tmp_path, **{"engine": "fake", **facts})


def test_one_address_is_enough(tmp_path):
    (remote,) = read_remotes(settings(tmp_path, remote_url="http://localhost:11434", remote_key="k", slots=3), {})
    assert (remote.spec.name, remote.spec.kind, remote.spec.slots) == ("remote", "auto", 3)
    assert (remote.url, remote.root, remote.key, remote.local) == (
        "http://localhost:11434/v1", "http://localhost:11434", "k", True
    )  # fmt: skip


def test_several_servers_come_from_a_file_or_from_json(tmp_path):
    path = tmp_path / "remotes.toml"
    path.write_text(
        '[[remote]]\nname = "gpu"\nurl = "https://gpu.example/v1"\nkey = "GPU_KEY"\nkind = "vllm"\n'
        'models = ["meta/base"]\nbetween_seconds = 5\n[remote.adapters]\n"meta/base" = "ours"\n'
        '[[remote]]\nname = "lap"\nurl = "http://127.0.0.1:8080"\n'
    )
    gpu, lap = read_remotes(settings(tmp_path, remotes=str(path)), {"GPU_KEY": " secret\n"})
    assert (gpu.key, gpu.spec.models, gpu.spec.adapters, gpu.local) == (
        "secret",
        ("meta/base",),
        {"meta/base": "ours"},
        False,
    )
    assert (lap.key, lap.local) == ("", True)
    listed = json.dumps([{"url": "http://a"}, {"url": "http://b", "name": "b"}])
    assert [each.spec.name for each in read_remotes(settings(tmp_path, remotes=listed), {})] == ["remote", "b"]
    assert "secret" not in repr(gpu)


@pytest.mark.parametrize(("remotes", "words"), [
    ("/no/such/file.toml", "/no/such/file.toml"),
    ("[", "neither a TOML file nor JSON"),
    ("{}", "`remote`"),
    ('[{"name": "a"}]', "`url`"),
    ('[{"url": "http://a", "colour": 1}]', "colour"),
    ('[{"url": "http://a", "kind": "tgi"}]', "kind"),
    ('[{"url": "http://a", "slots": 0}]', "slots"),
    ('[{"url": "http://a", "retries": 99}]', "retries"),
    ('[{"url": "http://a", "first_seconds": 0}]', "first_seconds"),
    ('[{"url": "http://a", "first_seconds": 1e9}]', "first_seconds"),
    ('[{"url": "http://a", "name": "a/b"}]', "name"),
    ('[{"url": "http://a"}, {"url": "http://b"}]', "wo servers"),
    ('[{"url": "http://a", "key": "NOT_SET"}]', "NOT_SET"),
    ('[{"url": "http://a", "key": "sk-looks-like-a-key"}]', "key"),
    ('[{"url": "http://a", "key": "ODD"}]', "characters"),
    ('[{"url": "ftp://a"}]', "http"),
    (json.dumps([{"url": f"http://h{i}", "name": f"n{i}"} for i in range(40)]), "length"),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, remotes, words):
    with pytest.raises(EngineError) as caught:
        read_remotes(settings(tmp_path, remotes=remotes), {"ODD": "a\u00e9\x01"})
    assert caught.value.code == "bad_remotes" and words in caught.value.message


def test_a_file_that_is_far_too_long_is_not_read(tmp_path):
    path = tmp_path / "big.toml"
    path.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(EngineError, match="longer"):
        read_remotes(settings(tmp_path, remotes=str(path)), {})


@pytest.mark.parametrize("url", [
    "", "localhost:11434", "http://", "file:///etc/passwd", "http://user:pw@host/v1", "http://h/v1?key=x", "http://h/#a",
    "http://h:99999999", "http://[::1", "javascript:alert(1)",
])  # fmt: skip
def test_what_is_no_address_of_a_server_is_refused(url):
    with pytest.raises(EngineError) as caught:
        address(url)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize(("url", "right"), [
    ("http://h", "http://h/v1"), ("http://h/", "http://h/v1"), ("https://H:8443/v1/", "https://h:8443/v1"),
    ("http://h/openai/v1", "http://h/openai/v1"), ("http://[::1]:80/v1", "http://[::1]:80/v1"),
])  # fmt: skip
def test_addresses_are_put_right(url, right):
    assert address(url) == right


def test_a_remote_engine_without_a_server_says_what_to_set(tmp_path):
    with pytest.raises(EngineError, match="DIPTYCH_REMOTE_URL"):
        read_remotes(settings(tmp_path, engine="remote"), {})
