"""A whole Diptych for a test: `manage.py up` in a folder of its own, on a free port, ended with the test.

Used as a context manager. `pids` and `kill` are for tests that break things on purpose.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "a-token-for-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    def __init__(self, home: Path, engine: str = "fake", delay: float = 5, **env: str) -> None:
        """`delay` is the fake engine's time per token in ms; `env` adds environment variables."""
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.signed_in = f"{self.url}/?token={TOKEN}"
        self.lines: list[str] = []
        self.env = {
            **os.environ,
            "DIPTYCH_HOME": str(home),
            "DIPTYCH_PORT": str(self.port),
            "DIPTYCH_TOKEN": TOKEN,
            "DIPTYCH_ENGINE": engine,
            "DIPTYCH_MODEL": "fake-base" if engine == "fake" else "smollm2-135m-instruct",
            "DIPTYCH_FAKE_DELAY": str(delay),
            **env,
        }

        if engine == "torch":  # the models that were pulled once serve every test
            home.mkdir(parents=True, exist_ok=True)
            (home / "models").symlink_to(Path(os.environ.get("DIPTYCH_HOME", ROOT / "var")).resolve() / "models")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._reader.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def readiness(self) -> dict:
        status, body = self.get("/readyz")
        return json.loads(body) if status in (200, 503) else {}

    def wait_ready(self, seconds: float = 120) -> None:
        """Wait for /readyz, which is the system's own word that everything answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"up ended with {self._process.returncode}:\n{self.output}")
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.1)
        raise TimeoutError(f"not ready after {seconds} s: {self.get('/readyz')}\n{self.output}")

    def wait_said(self, text: str, seconds: float = 30) -> None:
        """Wait until a line with `text` was printed."""
        end = time.monotonic() + seconds
        while not any(text in line for line in list(self.lines)):
            if time.monotonic() > end:
                raise TimeoutError(f"never said {text!r}:\n{self.output}")
            time.sleep(0.05)

    root = ROOT

    def manage(self, *args: str) -> list[str]:
        """Command line of `manage.py` with these arguments; run it with `env` in `root`."""
        return [sys.executable, "manage.py", *args]

    def pids(self, name: str) -> list[int]:
        """Process ids of the child called `name`: bus, web, recorder or worker."""
        pattern = {
            "bus": "unixsocket",
            "web": r"manage\.py web",
            "recorder": r"manage\.py record",
            "worker": r"-m models_backend worker",
        }[name]
        found = subprocess.run(["ps", "-ww", "-axo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=2) for line in found.stdout.splitlines()]
        return [int(pid) for pid, parent, args in rows if int(parent) == self._process.pid and re.search(pattern, args)]

    def kill(self, name: str, signal_: int = signal.SIGKILL) -> None:
        (pid,) = self.pids(name)
        os.kill(pid, signal_)
