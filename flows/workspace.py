"""The folder in which the flows keep everything, and the lock that admits one flow at a time.

WORKSPACE/
  lock, holder                    the lock, and the name of the run that holds it
  schedule.lock                   the lock that admits one schedule at a time
  tag                             what Prefect's runs and the schedule of this workspace are named by
  data/                           all photos ever collected, each once: flows/collection
    catalogue.sqlite              what is known of each photo, and its paths in the sources
    photos/<aa>/<sha256>.jpg      unchanged copies
    quarantine/<sha256>.jpg|json  unusable files, and why
    to-forget/, forgotten/<sha256>  empty files: samples to be forgotten, and those that were: flows/forgetting.py
    <digest>.jsonl                a version of the data set, readable by `tagmask train`
    <digest>.held-out.jsonl       its held-out set
  stages/<stage>-<key>/           outputs of a stage, by the digest of all its inputs
  runs/<key>/                     one training: its ledger, its bundle, and links to its stages: training/run/layout.py
  tensorboard/<key>/              the training for TensorBoard, if the setting `tensorboard` is on
  weights/<version>/              the networks of a published bundle, for warm starts
  training.json, last.json        the training in progress, and the last finished one: flows/state.py
  store/                          bundles by version, and the champion (unless another store is named)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tagmask.disk import unwritable
from tagmask.errors import RunError
from tagmask.files import locked
from tagmask.inputs import Location, location
from tagmask.sample_set import SampleSet
from training.run.layout import Layout


class Busy(RunError):
    """Another flow is using the workspace."""


class Workspace:
    """Paths below one workspace folder."""

    def __init__(self, root: Path, store: Location | None = None) -> None:
        """`store` is the folder or URL of bundles, by default a folder below `root`."""
        self.root = root
        self.data = root / "data"
        self.photos = self.data / "photos"
        self.quarantine = self.data / "quarantine"
        self.to_forget = SampleSet(self.data / "to-forget")
        self.forgotten = SampleSet(self.data / "forgotten")
        self.stages = root / "stages"
        self.runs = root / "runs"
        self.events = root / "tensorboard"
        self.networks = root / "weights"
        self.store = location(store) if store else root / "store"
        self.training = root / "training.json"
        self.last = root / "last.json"

    def run(self, key: str) -> Layout:
        return Layout(self.runs / key)

    def tensorboard(self, key: str) -> Path:
        return self.events / key

    def weights(self, version: str) -> Path:
        return self.networks / version

    @contextmanager
    def lock(self, holder: str, *, wait: bool) -> Iterator[None]:
        """Hold the workspace's lock in the context; `holder` names this flow to others.

        The system releases the lock when this process ends, however it ends. Without `wait`, raises Busy, naming the
        holder. Raises RunError when the folder cannot be written.
        """
        name = self.root / "holder"
        with ExitStack() as stack:
            try:
                self._enter(stack, "lock", wait=wait)
                name.write_text(holder)
            except BlockingIOError as error:
                other = name.read_text(errors="replace") if name.is_file() else "another flow"
                raise Busy(f"workspace {self.root}: in use by {other}; wait for it to finish") from error
            except OSError as error:
                raise unwritable(f"workspace {self.root}", error) from error
            yield

    @contextmanager
    def lock_schedule(self) -> Iterator[None]:
        """Hold the lock that admits one schedule at a time in the context. Raises Busy, or RunError as `lock`."""
        with ExitStack() as stack:
            try:
                self._enter(stack, "schedule.lock", wait=False)
            except BlockingIOError as error:
                raise Busy(
                    f"workspace {self.root}: it has a schedule, which is running; stop that one, or name another "
                    "workspace"
                ) from error
            except OSError as error:
                raise unwritable(f"workspace {self.root}", error) from error
            yield

    def _enter(self, stack: ExitStack, lock: str, *, wait: bool) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(self.root / lock, wait=wait))
