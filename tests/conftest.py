"""Places to run entry points in: each test has its own folder, processes and tracking store.

What is slow is made once: imports (a zygote that forks), MLflow's tables (a database that is copied)
and a small set of phantoms. pytest-xdist's workers share the last two.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres, programs
from sqlalchemy.engine import make_url
from workplace import TINY, Place, Zygote, once

# Before torch is imported anywhere: on a busy machine threads that wait for each other cost a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture(scope="session")
def phantoms(shared: Path) -> Path:
    """A prepared set of synthetic phantoms: the tiny recipe's, in an absolute folder."""

    def make(folder: Path) -> None:
        from dermonas.data.prepare import prepare
        from dermonas.events import Silent
        from pipelines.recipe import read_config

        prepare(read_config("prepare", ["--config", str(TINY), "--out", str(folder)])[0], Silent())

    return once(shared, "phantoms", make)


@pytest.fixture(scope="session")
def study_tables(shared: Path) -> Path:
    """A studies.db that holds Optuna's tables and nothing else."""

    def make(file: Path) -> None:
        import optuna

        optuna.storages.RDBStorage(f"sqlite:///{file}").engine.dispose()

    return once(shared, "studies.db", make)


@pytest.fixture(scope="session")
def run_tables(shared: Path) -> Path:
    """An mlflow.db that holds MLflow's tables and nothing else."""

    def make(file: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{file}", str(shared / "mlruns")).engine.dispose()

    return once(shared, "mlflow.db", make)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; tests of it are skipped where the package is not installed."""
    pytest.importorskip("psycopg2")
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    server = Postgres(found)
    yield server
    server.close()


@pytest.fixture(scope="session")
def ready_databases(postgres: Postgres) -> tuple[str, str]:
    """Names of two databases that hold Optuna's tables, and MLflow's, and nothing else."""
    import optuna
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    urls = postgres.database(), postgres.database()
    optuna.storages.RDBStorage(urls[0]).engine.dispose()
    SqlAlchemyStore(urls[1], str(postgres.folder / "mlruns")).engine.dispose()
    studies, runs = (str(make_url(url).database) for url in urls)
    return studies, runs


@pytest.fixture
def make_place(
    tmp_path: Path, zygote: Zygote, phantoms: Path, run_tables: Path, study_tables: Path
) -> Iterator[Callable[..., Place]]:
    """Return a function that makes a working folder; processes still running at the end are killed."""
    places: list[Place] = []

    def make(folder: Path | str = "work") -> Place:
        work = tmp_path / folder
        work.mkdir(exist_ok=True)
        log = tmp_path / f"log-{len(places)}"
        log.mkdir()
        for file in (run_tables, study_tables):
            shutil.copy(file, work)
        places.append(Place(work, phantoms, zygote, log))
        return places[-1]

    yield make
    for place in places:
        for process in place.processes:
            process.end()


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()
