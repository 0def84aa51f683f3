"""A Ray that dies is told of, and nothing that it ran goes on without it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from wtsbench.errors import ExitCode

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
time.sleep(600)
"""
CHILD = """
import time
from wtsbench.execution.ray_health import end_with_parent
end_with_parent()
print("watches", flush=True)
time.sleep(600)
"""


def test_a_worker_ends_with_its_raylet() -> None:
    """A process that watches its parent is gone soon after SIGKILL of the parent."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "watches\n"
        parent.kill()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()


DRIVER = """
import os, sys, time
import psutil
from wtsbench.errors import ClusterError
from wtsbench.execution.ray_executor import RayExecutor
from wtsbench.spec.grid import Resources
executor = RayExecutor(None, Resources())
assert executor.slots >= 1
there = psutil.process_iter(["ppid", "name"])  # without those that end meanwhile
[process] = [one for one in there if (one.info["ppid"], one.info["name"]) == (os.getpid(), sys.argv[1])]
process.kill()
try:
    while True:
        executor.slots
        time.sleep(0.05)
except ClusterError as died:
    print("told", int(died.exit_code), died, flush=True)
executor.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_dead_ray_is_told_of(victim: str) -> None:
    """Where Ray itself would wait for ever, or end the process, there is an error that says what to do."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.run(  # a process of its own: Ray may end it as well
        [sys.executable, "-c", DRIVER, victim], capture_output=True, text=True, env=environment, timeout=120
    )
    said = [line for line in driver.stdout.splitlines() if line.startswith("told")]
    assert len(said) == 1, driver.stderr
    assert said[0].startswith(f"told {int(ExitCode.UNREACHABLE)} Ray died")
    assert "submit again" in driver.stdout


BROKEN = """
import ray
from wtsbench.execution.ray_executor import RayExecutor
from wtsbench.spec.grid import Resources
from wtsbench_cli.faults import guarded
executor = RayExecutor(None, Resources())
@ray.remote(max_retries=0)
def broken():
    with open("/nowhere/to/be/found"):
        pass
executor._tasks[broken.remote()] = None
print(guarded(lambda: executor.wait(60), debug=True))
executor.close()
"""


@pytest.mark.slow
def test_what_failed_in_a_worker_is_said() -> None:
    """An unexpected error of a supervisor is told by its own words; `--debug` shows where in the worker it was."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, env=environment, timeout=120
    )
    assert driver.stdout.splitlines()[-1] == str(int(ExitCode.INTERNAL)), driver.stderr
    assert "wtsbench itself failed: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/to/be/found'" in (
        driver.stderr
    )
    assert "in broken" in driver.stderr
