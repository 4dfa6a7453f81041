"""A PostgreSQL server of the tests' own: Debian's package, in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import sqlalchemy


def programs() -> Path | None:
    """The folder of the newest server's programs, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    at = shutil.which("postgres")
    return None if at is None else Path(at).resolve().parent


class Postgres:
    """A server, and databases in it.

    It runs as the package's user where the tests run as root, which PostgreSQL refuses. What a power failure loses,
    nothing here needs.
    """

    def __init__(self, bin_: Path) -> None:
        self.bin = bin_
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="dpg", dir="/tmp"))  # a socket's path must be short
        if self.user:
            shutil.chown(self.folder, self.user)
        self._numbers = count()
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "tests", "-A", "trust", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments], user=self.user, cwd=self.folder, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def _control(self, action: str, *more: str) -> None:
        self._run("pg_ctl", action, "-D", str(self.folder / "data"), "-w", *more)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """Stop as a crash does: connections are cut, the log is replayed at the next start."""
        self._control("stop", "-m", "immediate")

    def close(self) -> None:
        self._control("stop", "-m", "immediate")
        shutil.rmtree(self.folder)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://tests@/{name}?host={self.folder}"

    def database(self, like: str = "template1") -> str:
        """Make a database, a copy of another one; return its URL."""
        name = f"made{next(self._numbers)}"
        engine = sqlalchemy.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"create database {name} template {like}"))
        engine.dispose()
        return self.url(name)
