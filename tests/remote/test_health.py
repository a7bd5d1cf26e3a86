"""A server that is away, comes back, changes its models, or tells nonsense of them."""

import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from models_backend.protocol.events import LaneDone, LaneFailed
from models_backend.registry import Entry
from tests.stack import free_port

from . import upstream as servers
from .conftest import request, text_of
from .upstream import TEXT, TUNED, Fault

KEY = "sk-secret"


def test_a_server_that_is_away_shows_its_models_says_why_and_comes_back_by_itself(house):
    port = free_port()
    engine = house.engine(f"http://127.0.0.1:{port}/v1", models=["meta/base"], retries=0)
    house.until(lambda: "nobody listens" in engine.trouble)
    assert [(model.id, model.loaded) for model in engine.models()] == [("meta/base", False)]
    failed = house.ask(engine, "meta/base")[-1]
    assert isinstance(failed, LaneFailed) and failed.error.code == "upstream_unreachable"
    assert "nobody listens" in failed.error.message and str(port) not in failed.error.message
    server = house.server("vllm", port)
    house.ready(engine)
    assert [(model.id, model.loaded) for model in engine.models()] == [("meta/base", True)]
    assert text_of(house.ask(engine, "meta/base")) == TEXT
    server.__exit__()
    assert isinstance(house.ask(engine, "meta/base")[-1], LaneFailed)
    house.until(lambda: engine.trouble)
    assert [(model.id, model.loaded) for model in engine.models()] == [("meta/base", False)]
    house.server("vllm", port)
    house.ready(engine)


def test_a_server_that_comes_back_between_two_tries_loses_nobody(house):
    port = free_port()
    engine = house.engine(f"http://127.0.0.1:{port}/v1", models=["meta/base"], retries=10)
    tries = []

    async def sleep(seconds):
        tries.append(seconds)
        if len(tries) == 3:
            house.server("vllm", port)

    engine._clocks = type(engine._clocks)(engine._clocks.wall, engine._clocks.steady, sleep)
    assert text_of(house.ask(engine, "meta/base")) == TEXT
    assert tries == sorted(tries) and tries[-1] <= 8


@pytest.mark.parametrize("models", [
    {}, {"data": 5}, {"data": [5, None, {}, {"id": 5}, {"id": ""}, {"id": "x" * 151}, {"id": "a\nb"}]},
])  # fmt: skip
def test_a_list_of_models_that_is_none_is_told(house, models):
    server = house.server("openai")
    server._page = lambda writer, path: _answer(writer, models)
    engine = house.engine(server.url)
    house.until(lambda: "not answered yet" not in engine.trouble)
    assert engine.trouble.startswith("remote: it") and engine.models() == []


def _answer(writer, value):
    import json

    from .upstream import _reply

    _reply(writer, 200, {}, json.dumps(value).encode())


def test_only_so_many_models_are_taken_and_only_those_that_are_allowed(house):
    server = house.server("vllm")
    server.models = [{"id": f"m{i}", "owned_by": "vllm", "max_model_len": 2**40} for i in range(700)]
    many = house.ready(house.engine(server.url))
    assert len(many.models()) == 500 and many.models()[0].context == 0
    few = house.ready(house.engine(server.url, models=["m3", "elsewhere"], context=99))
    assert [(model.id, model.context) for model in few.models()] == [("m3", 99), ("elsewhere", 99)]


def test_new_models_are_found_and_the_worker_is_told(house, monkeypatch):
    from models_backend.remote import engine as room

    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    server = house.server("vllm")
    engine = house.ready(house.engine(server.url))
    server.models.append({"id": "second", "owned_by": "vllm", "parent": "meta/base"})
    house.until(lambda: len(engine.models()) == 3)
    assert engine.models()[-1].base == "meta/base"


def test_an_engine_that_waits_is_not_busy_and_wakes_whoever_listens(house):
    server = house.server("vllm")
    engine = house.ready(house.engine(server.url))
    assert not engine.busy and engine.step() == []
    server.faults.append(Fault(after=2, hang=True))
    engine.submit(request("meta/base"))
    heard = []
    house.until(lambda: heard.extend(engine.step()) or len(heard) >= 3)
    house.woken.clear()
    assert not engine.busy and engine.running == 1
    engine.stop("a" * 32, 0)
    assert house.woken.wait(10) and engine.busy


def test_closing_breaks_off_what_runs(house):
    server = house.server("vllm")
    server.endless = True
    engine = house.ready(house.engine(server.url))
    engine.submit(request("meta/base", max_tokens=8000))
    house.until(lambda: server.asked)
    engine.close()
    assert server.gone.wait(10)
    engine.submit(request("meta/base", lane=1))  # nobody answers any more, and nothing breaks
    engine.stop("a" * 32, 0)
    engine.close()


def entry(name, folder, base="ours"):
    return Entry(name, name, "", base, folder, folder, "", None, None, None)


def test_adapters_of_this_installation_are_brought_to_vllm_and_taken_away(house, tmp_path, monkeypatch):
    from models_backend.remote import engine as room

    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    server = house.server("vllm")
    installed = [entry("ft:ours:tickets", tmp_path / "tickets"), entry("ft:other:x", tmp_path / "x", "other")]
    engine = house.engine(
        server.url, installed=lambda: list(installed), adapters={"meta/base": "ours"}, adapters_folder="/srv/a/"
    )
    house.until(lambda: any(model.id == "ft:ours:tickets" for model in engine.models()))
    brought = [seen for seen in server.seen if seen.path == "/v1/load_lora_adapter"]
    assert [seen.body for seen in brought] == [{"lora_name": "ft:ours:tickets", "lora_path": "/srv/a/tickets"}]
    events = house.ask(engine, "ft:ours:tickets")
    assert isinstance(events[-1], LaneDone) and server.asked[-1].body["model"] == "ft:ours:tickets"
    installed.clear()
    house.until(lambda: all(model.id != "ft:ours:tickets" for model in engine.models()))
    assert [seen.body for seen in server.seen if "unload" in seen.path] == [{"lora_name": "ft:ours:tickets"}]
    assert any(model.id == TUNED for model in engine.models()), "what others have loaded stays"


def test_adapters_are_brought_to_nobody_who_was_not_allowed_them(house, tmp_path):
    server = house.server("vllm")
    engine = house.ready(house.engine(server.url, installed=lambda: [entry("ft:ours:t", tmp_path)]))
    assert [model.id for model in engine.models()] == ["meta/base", TUNED]
    assert all("lora" not in seen.path for seen in server.seen)


def test_an_adapter_that_vllm_refuses_is_not_offered_at_every_look(house, tmp_path, monkeypatch):
    from models_backend.remote import engine as room

    monkeypatch.setattr(room, "LOOK_SECONDS", 0.02)
    server = house.server("vllm")
    server._adapter = lambda writer, path, body: _refuse(writer)
    engine = house.ready(
        house.engine(server.url, installed=lambda: [entry("ft:ours:t", tmp_path)], adapters={"meta/base": "ours"})
    )
    house.until(lambda: sum(seen.path == "/v1/models" for seen in server.seen) > 5)
    assert sum("lora" in seen.path for seen in server.seen) == 1
    assert [model.id for model in engine.models()] == ["meta/base", TUNED]


def _refuse(writer):
    from .upstream import _reply

    _reply(writer, 404, {}, b'{"error": {"message": "No adapter found"}}')


def test_a_fault_of_ours_ends_no_lane_in_silence(house):
    server = house.server("vllm")
    server.faults.append(Fault(after=2, hang=True))
    engine = house.ready(house.engine(server.url))
    engine.submit(request("meta/base"))
    heard = []
    house.until(lambda: heard.extend(event for _, event in engine.step()) or text_of(heard) == "The river")

    def broken() -> None:
        engine._changed = house.woken.set
        raise ValueError("not meant to happen")

    engine._changed = broken
    server.models.append({"id": "news"})
    engine._loop.call_soon_threadsafe(engine._look_now.set)
    failed = house.hear(engine)[-1]
    engine._thread.join(10)
    later = house.ask(engine, "meta/base", lane=1)[-1]
    assert [(type(event), event.error.code) for event in (failed, later)] == [(LaneFailed, "engine_error")] * 2
    assert "worker's log" in engine.trouble


def test_a_certificate_that_nobody_vouches_for_is_not_taken(house, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    server = servers.Upstream("vllm", tls=context).__enter__()
    house.open.append(server)
    engine = house.engine(server.url.replace("http:", "https:"), models=["meta/base"], retries=0, key=KEY)
    house.until(lambda: "certificate" in engine.trouble)
    failed = house.ask(engine, "meta/base")[-1]
    assert isinstance(failed, LaneFailed) and "certificate cannot be verified" in failed.error.message
    assert server.seen == [], "not even the key was sent"


def _self_signed(folder):
    """A certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, False).sign(key, hashes.SHA256())
    path = folder / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))
    return path
