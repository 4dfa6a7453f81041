"""Which of a study's processes leads: it alone writes the search's run, and its report at the end.

Source: DESIGN 4 and 5; docs/decisions/many-workers.md.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import optuna

from dermonas.search.owner import alive, is_me, me
from dermonas.search.pulse import Pulse
from dermonas.search.storage import GRACE_SECONDS, Exclusive, ServerStorage

LEADER = "leader"
"""Attribute of a study: the leading process as `owner.me` describes it, with its run's id; or what it left."""
RUN, ENDED = "run", "ended"
SECONDS = "seconds:"
"""How the study's attributes begin that hold a worker's seconds by phase."""


class Leadership:
    """One process's view of who leads a study.

    Args:
        study: The study.
        run_id: The run that this process would lead with.
    """

    def __init__(self, study: optuna.Study, run_id: str) -> None:
        self.study, self.run_id = study, run_id
        self._exclusive = Exclusive(study)

    def leader(self) -> str | None:
        """Return the run of the process that leads and lives, None where there is none."""
        record = self._record()
        run = record.get(RUN)
        if run is None or (run != self.run_id and is_me(record)):  # this process's last search, which failed
            return None
        return str(run) if alive(record, GRACE_SECONDS) else None

    def ended(self) -> str | None:
        """Return the run of the search that is over, if one is and none has begun since."""
        return self._record().get(ENDED)

    def take(self, *, anew: bool) -> bool:
        """Lead, if no living process does; return whether this one does. Of several that ask, one gets it.

        Args:
            anew: Whether to go on with a search that is over; else its last leader stays the last.
        """

        def section() -> bool:
            leader = self.leader()
            if leader is None and (anew or self.ended() is None):
                self.study.set_user_attr(LEADER, {**me(), RUN: self.run_id})
                return True
            return leader == self.run_id

        return self._exclusive(section)

    def resign(self, *, ended: bool) -> None:
        """Leave the lead, if this process has it: to nobody where the search is over, else to another process."""
        self._rewrite({ENDED: self.run_id} if ended else {})

    def pulse(self) -> Pulse:
        """Return the sign of life of a leader; on SQLite all that could look for it are on this host."""
        server = isinstance(getattr(self.study._storage, "_backend", None), ServerStorage)
        return Pulse(lambda: self._rewrite({**me(), RUN: self.run_id})) if server else Pulse(None)

    def _record(self) -> Mapping[str, Any]:
        return self.study.user_attrs.get(LEADER, {})

    def _rewrite(self, record: Mapping[str, Any]) -> None:
        def section() -> None:
            known = self._record()
            if known.get(RUN) == self.run_id and is_me(known):
                self.study.set_user_attr(LEADER, dict(record))

        self._exclusive(section)


class Seconds:
    """A worker's wall time by phase, kept in the study for the process that leads.

    Args:
        study: The study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study, self._key = study, f"{SECONDS}{uuid.uuid4().hex}"

    def keep(self, seconds: Mapping[str, float]) -> None:
        """Write over what was kept."""
        self.study.set_user_attr(self._key, {"at": time.time(), **seconds})


def seconds_since(study: optuna.Study, since: float) -> dict[str, float]:
    """Return the seconds by phase of all workers that kept theirs after `since` (seconds since 1970), summed."""
    total: Counter[str] = Counter()
    for key, kept in study.user_attrs.items():
        if key.startswith(SECONDS) and kept["at"] >= since:
            total.update({phase: value for phase, value in kept.items() if phase != "at"})
    return dict(total)
