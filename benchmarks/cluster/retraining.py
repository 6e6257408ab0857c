"""A retraining during which parts are killed, one after the other."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos import finished
from benchmarks.cluster import parts
from benchmarks.cluster.deployment import PAUSE_S, Deployment
from tagmask.bundle import read_metadata

ENDS_S = 1800.0
"""Seconds that a retraining may take."""

FOLLOWS_S = 30.0
"""Seconds in which the services must follow a promotion."""


@dataclass(frozen=True)
class Kill:
    """`part` is killed when the retraining has written a file of the pattern `moment` in its workspace.

    Before that, all must be well again after the kill before.
    """

    part: str
    moment: str


@dataclass
class Death:
    """What followed a kill at the time `at` of the monotonic clock, until the next one.

    `said` is how each retraining ended that had to be started again, `again` are finished files that were written
    again, and `well` is after how many seconds all parts did their work and the retraining had gone on.
    """

    part: str
    at: float
    before: dict[str, int]
    kept: dict[str, int] | None = None
    well: float = 0
    said: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


class Retraining:
    """A retraining in the new folder `workspace`, from the first model. `seconds` is how long it took."""

    def __init__(self, deployment: Deployment, workspace: Path) -> None:
        self._deployment, self._workspace = deployment, workspace
        shutil.copytree(deployment.first, workspace, symlinks=True)
        self._earlier = set(workspace.rglob("*"))
        self._deaths: list[Death] = []
        self.seconds = 0.0

    def run(self, kills: Sequence[Kill]) -> Iterator[Death]:
        """Run it until it ends well, starting it again whenever it fails; yields each death when it is over.

        Raises TimeoutError if it does not end, and RuntimeError if it ends before all `kills`.
        """
        left, begun, trainer = list(kills), time.monotonic(), self._deployment.trainer
        self._deployment.train("retrain", self._workspace, parts.PHOTOS, parts.INBOX)
        while not self._has_ended():
            death = self._deaths[-1] if self._deaths else None
            if death and not death.well:
                self._look(death)
            elif left and set(self._workspace.glob(left[0].moment)) - self._earlier:
                if death:
                    yield self._close(death)
                self._kill(left.pop(0))
            if time.monotonic() > begun + ENDS_S:
                raise TimeoutError(f"the retraining does not end; {trainer.log} ends with:\n{trainer.last_output()}")
            time.sleep(0.2)
        self.seconds = time.monotonic() - begun
        for death in self._deaths[-1:]:
            while not death.well:
                self._look(death, ended=True)
            yield self._close(death)
        if left:
            raise RuntimeError(f"the retraining ended before {left[0].part} could be killed; take more photos")

    def _has_ended(self) -> bool:
        """Whether it has ended well. If it has failed, it is started again."""
        trainer = self._deployment.trainer
        if trainer.runs:
            return False
        code = trainer.wait()
        if code == 0:
            return True
        for death in self._deaths[-1:]:
            death.said.append(trainer.last_line() if code > 0 else "killed")
        time.sleep(PAUSE_S)
        trainer.start()
        return False

    def _kill(self, kill: Kill) -> None:
        self._deaths.append(Death(kill.part, time.monotonic(), finished(self._workspace)))
        self._deployment.parts[kill.part].kill()

    def _look(self, death: Death, ended: bool = False) -> None:
        """See whether all is well again, and the retraining has gone on or `ended`."""
        if death.kept is None and self._deployment.is_well():
            death.kept = finished(self._workspace)
        elif death.kept is not None and (ended or finished(self._workspace) != death.kept):
            death.well = time.monotonic() - death.at

    def _close(self, death: Death) -> Death:
        after = finished(self._workspace)
        death.again = [path for path, inode in death.before.items() if after.get(path) != inode]
        return death


def roll_back(deployment: Deployment) -> str:
    """Replace the champion by the first model; returns its weights digest. Raises TimeoutError if it was not served."""
    store, limit = deployment.store, time.monotonic() + FOLLOWS_S
    champion = store.champion()
    assert champion is not None
    while (served := deployment.served()) != {champion.version}:
        if time.monotonic() > limit:
            raise TimeoutError(f"{FOLLOWS_S:.0f} s later, the services serve {served}, not {champion.version}")
        time.sleep(0.2)
    digest = read_metadata(store.path(champion.version)).weights_digest
    store.rollback()
    store.retain(0)
    return digest
