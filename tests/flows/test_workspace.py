import subprocess
import sys
import threading
import time

import pytest

from flows.workspace import Busy, Workspace
from tagmask.errors import RunError

HOLD = """
import sys, time
from pathlib import Path
from flows.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock("run sleepy-owl", wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_is_at_work(tmp_path):
    workspace = Workspace(tmp_path / "new" / "workspace")
    with (
        workspace.lock("run busy-bee", wait=False),
        pytest.raises(Busy, match="new/workspace: in use by run busy-bee; wait"),
        workspace.lock("run late-fly", wait=False),
    ):
        pass
    with workspace.lock("run late-fly", wait=False):
        pass


def test_the_second_waits(tmp_path):
    workspace, order = Workspace(tmp_path), list[str]()

    def second() -> None:
        with workspace.lock("second", wait=True):
            order.append("second")

    with workspace.lock("first", wait=False):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_flow_lets_go(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Busy, match="sleepy-owl"), Workspace(tmp_path).lock("next", wait=False):
        pass
    holder.kill()
    holder.communicate()
    with Workspace(tmp_path).lock("next", wait=False):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            RunError, match=r"workspace .*/file/workspace: cannot be written .*another folder and start again"
        ),
        Workspace(tmp_path / "file" / "workspace").lock("run", wait=False),
    ):
        pass
