"""A file on which libhdf5 crashes, hangs or takes all memory costs an error of one line, wherever that happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import psutil
import pytest

import h5z
from h5z.errors import H5zError, IsolationError, SourceError, TransientError
from h5z.hdf5.identity import ChunkIndex, header_digest
from h5z.isolation import run_isolated
from h5z.target import Target

from .hostile import COMPILER, CRASH, EAT, HANG, SLOW, build, misbehaving, wake
from .running import BAD_SOURCE, DATA, DONE, Run, expect_one_line
from .stored import listing

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler for a filter that misbehaves")
LIMITS = ("--timeout", "2", "--memory-limit", "400MiB")
SIGNS = {CRASH: ("crashed", "SIGSEGV"), HANG: ("no progress for 2 s",), EAT: ("/x",)}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which libhdf5 finds the filter that misbehaves."""
    return build(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def at_home(plugin: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's children find it too."""
    monkeypatch.setenv("HDF5_PLUGIN_PATH", plugin["HDF5_PLUGIN_PATH"])


@needs_compiler
@pytest.mark.parametrize("how", SIGNS)
def test_while_data_are_converted(cli: Run, plugin: dict[str, str], tmp_path: Path, how: int) -> None:
    """After some of them are written: nothing of the target stays."""
    source = misbehaving(tmp_path / "bad.h5", how)
    done = cli("convert", source, tmp_path / "out.zarr", "--memory", "1MiB", *LIMITS, env=plugin)
    expect_one_line(done, BAD_SOURCE, "bad.h5", *SIGNS[how])
    assert not (tmp_path / "out.zarr").exists()


@needs_compiler
@pytest.mark.parametrize("how", SIGNS)
def test_while_a_dataset_is_measured(cli: Run, plugin: dict[str, str], tmp_path: Path, how: int) -> None:
    """One element is read of each dataset with a filter of others': plan says what is wrong."""
    source = misbehaving(tmp_path / "bad.h5", how, chunk=0)
    done = cli("plan", source, tmp_path / "out.zarr", *LIMITS, env=plugin)
    assert done.returncode in (BAD_SOURCE, 1)
    expect_one_line(done, done.returncode, "bad.h5", *SIGNS[how])


@needs_compiler
@pytest.mark.parametrize("how", [CRASH, HANG])
def test_while_a_target_is_verified(cli: Run, plugin: dict[str, str], tmp_path: Path, how: int) -> None:
    """The target was right when the source was."""
    source = misbehaving(tmp_path / "bad.h5", how, slumbering=True)
    assert cli("convert", source, tmp_path / "out.zarr", env=plugin).returncode == DONE
    before = listing(tmp_path / "out.zarr")
    wake(source)
    done = cli("verify", source, tmp_path / "out.zarr", *LIMITS, env=plugin)
    expect_one_line(done, BAD_SOURCE, "bad.h5", *SIGNS[how])
    assert listing(tmp_path / "out.zarr") == before


@needs_compiler
def test_while_a_target_is_replaced(cli: Run, plugin: dict[str, str], tmp_path: Path) -> None:
    """The old one stays, whole, and alone."""
    misbehaving(tmp_path / "good.h5", CRASH, slumbering=True)
    assert cli("convert", tmp_path / "good.h5", tmp_path / "out.zarr", env=plugin).returncode == DONE
    before = listing(tmp_path / "out.zarr")
    source = misbehaving(tmp_path / "bad.h5", CRASH)
    expect_one_line(cli("convert", source, tmp_path / "out.zarr", "--overwrite", env=plugin), BAD_SOURCE, "bad.h5")
    assert listing(tmp_path / "out.zarr") == before


@needs_compiler
@pytest.mark.usefixtures("at_home")
def test_what_an_earlier_run_has_done_stays(cli: Run, plugin: dict[str, str], tmp_path: Path) -> None:
    """A crash may be the machine's fault: a run that goes on from another leaves that one's work."""
    source = misbehaving(tmp_path / "bad.h5", CRASH, slumbering=True)
    target = tmp_path / "out.zarr"
    assert cli("convert", source, target, env=plugin).returncode == DONE
    finished = listing(target)
    plan = h5z.plan(source, target, isolated=True)
    (target / "zarr.json").unlink()
    wake(source)
    index = ChunkIndex()
    with h5py.File(source) as file:  # whose header says now how it misbehaves
        for node in h5z.scan(source).arrays:
            index.add(node, file[node.path].id)
    plan = replace(plan, digest=header_digest(str(source)) + index.digest())
    earlier = Target.of(target).hold()
    earlier.put({".h5z/plan.json": json.dumps(plan.to_dict()).encode()})
    earlier.release()
    expect_one_line(cli("convert", source, target, env=plugin), BAD_SOURCE, "bad.h5")
    assert (target / ".h5z" / "plan.json").exists()
    assert finished.keys() - listing(target).keys() == {"zarr.json"}


@needs_compiler
def test_work_that_is_slow_is_not_taken_for_hanging(cli: Run, plugin: dict[str, str], tmp_path: Path) -> None:
    """The time limit is on progress, not on the whole."""
    source = misbehaving(tmp_path / "slow.h5", SLOW)
    done = cli("convert", source, tmp_path / "out.zarr", "--verify", "full", "--timeout", "2", env=plugin)
    assert done.returncode == DONE, done.stderr


@needs_compiler
@pytest.mark.usefixtures("at_home")
def test_from_python(tmp_path: Path) -> None:
    """The process survives, and the next file is converted; of a child that failed, none is used again."""
    bad, good = misbehaving(tmp_path / "bad.h5", CRASH), misbehaving(tmp_path / "good.h5", CRASH, slumbering=True)
    for i in range(3):
        with pytest.raises(IsolationError, match=r"bad\.h5: libhdf5 crashed"):
            h5z.convert(bad, tmp_path / f"bad{i}.zarr", isolated=True)
        report = h5z.convert(good, tmp_path / f"good{i}.zarr", isolated=True, verify="full")
        assert (report.ok, report.level) == (True, "full")
    assert {path.name for path in tmp_path.glob("*.zarr")} == {"good0.zarr", "good1.zarr", "good2.zarr"}


@needs_compiler
@pytest.mark.cluster
@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("how", [CRASH, HANG])
def test_workers_of_a_cluster_survive(tmp_path: Path, how: int) -> None:
    """Tasks are done in their children."""
    from distributed import Client, LocalCluster

    bad, good = misbehaving(tmp_path / "bad.h5", how), misbehaving(tmp_path / "good.h5", how, slumbering=True)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        before = client.submit(os.getpid, pure=False).result()
        with pytest.raises(IsolationError, match=rf"bad\.h5: .*{SIGNS[how][0]}"):
            h5z.convert(bad, tmp_path / "out.zarr", scheduler=client, isolated=True, timeout=2)
        assert not (tmp_path / "out.zarr").exists()
        assert h5z.convert(good, tmp_path / "out.zarr", scheduler=client, isolated=True, timeout=2, verify="full").ok
        assert client.submit(os.getpid, pure=False).result() == before


@pytest.fixture
def hanging(plugin: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A conversion that hangs in libhdf5, which holds Python's lock meanwhile."""
    source = misbehaving(tmp_path / "bad.h5", HANG)
    command = [sys.executable, "-m", "h5z.cli", "convert", str(source), str(tmp_path / "out.zarr")]
    with subprocess.Popen(command, env=plugin, stderr=subprocess.PIPE, text=True) as process:
        try:
            mark = tmp_path / "out.zarr" / ".h5z" / "plan.json"
            while not mark.exists():
                assert process.poll() is None
                time.sleep(0.02)
            time.sleep(0.5)
            yield process
        finally:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@needs_compiler
def test_a_child_ends_with_the_process_that_it_works_for(hanging: subprocess.Popen[str]) -> None:
    """Even killed, and though the child hangs: it must not write on while the same command is run again."""
    children = psutil.Process(hanging.pid).children(recursive=True)
    assert children
    hanging.kill()
    hanging.wait()
    deadline = time.monotonic() + 5
    while not all(map(gone, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(map(gone, children))


@needs_compiler
def test_an_interrupt_ends_both(hanging: subprocess.Popen[str]) -> None:
    """In one line; what is done stays for the next run."""
    children = psutil.Process(hanging.pid).children(recursive=True)
    hanging.send_signal(signal.SIGINT)
    _, said = hanging.communicate(timeout=30)
    assert hanging.returncode == 130
    assert said.splitlines() == ["h5z: interrupted; the same command goes on from here"]
    assert all(map(gone, children))


class Told:
    """What a function that runs elsewhere returns."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def to_dict(self) -> Any:
        return self.value


def process_id() -> Told:
    return Told(os.getpid())


def end(how: int) -> Told:
    if how == signal.SIGUSR1:
        os._exit(7)
    os.kill(os.getpid(), how)
    time.sleep(60)
    return Told(None)


def fill(nbytes: int) -> Told:
    return Told(len(bytearray(nbytes)))


def fail(error: Exception) -> Told:
    raise error


def shout() -> Told:
    print("this is no answer")
    os.write(1, b'{"result": "nor is this"}\n')
    return Told("this is")


def test_a_child_serves_one_call_after_the_other() -> None:
    first, second = (run_isolated(process_id, subject="x") for _ in range(2))
    assert first == second != os.getpid()


def test_a_child_that_met_an_error_is_not_used_again() -> None:
    before = run_isolated(process_id, subject="x")
    with pytest.raises(SourceError, match=r"^a\.h5: cannot be read"):
        run_isolated(fail, ValueError("odd"), subject="a.h5")
    assert run_isolated(process_id, subject="x") != before


def test_a_child_that_ended_while_it_waited_is_replaced() -> None:
    before = run_isolated(process_id, subject="x")
    os.kill(before, signal.SIGKILL)
    assert run_isolated(process_id, subject="x") != before


def test_a_child_is_where_this_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, and what the environment says, are those of the call."""
    run_isolated(process_id, subject="x")
    monkeypatch.chdir(tmp_path)
    assert run_isolated(os.getcwd, subject="x") == str(tmp_path)
    monkeypatch.setenv("H5Z_TEST", "now")
    assert run_isolated(os.getenv, "H5Z_TEST", subject="x") == "now"


@pytest.mark.parametrize("used", [False, True])
def test_the_file_is_blamed_for_what_it_does_to_a_new_child(used: bool) -> None:
    if used:
        run_isolated(process_id, subject="x")
    with pytest.raises(IsolationError, match=r"^a\.h5: libhdf5 crashed while reading it \(SIGABRT\)"):
        run_isolated(end, int(signal.SIGABRT), subject="a.h5")
    with pytest.raises(IsolationError, match=r"^a\.h5: the process that read it ended with status 7"):
        run_isolated(end, int(signal.SIGUSR1), subject="a.h5")
    with pytest.raises(TransientError, match=r"^a\.h5: .*killed from outside \(SIGKILL\)"):
        run_isolated(end, int(signal.SIGKILL), subject="a.h5")


def test_memory_is_limited() -> None:
    assert run_isolated(fill, 1 << 20, subject="a.h5", memory_limit=100 << 20) == 1 << 20
    if sys.platform == "linux":
        with pytest.raises(IsolationError, match=r"^a\.h5: expected to need no more than 104857600 bytes of memory"):
            run_isolated(fill, 1 << 30, subject="a.h5", memory_limit=100 << 20)
    assert run_isolated(fill, 200 << 20, subject="a.h5") == 200 << 20


def test_errors_keep_their_kind() -> None:
    for error in (h5z.errors.PlanError("p"), h5z.errors.UnsupportedError("u"), TransientError("t"), SourceError("s")):
        with pytest.raises(type(error), match=f"^{error}$"):
            run_isolated(fail, error, subject="a.h5")
    with pytest.raises(TransientError):
        run_isolated(fail, ConnectionResetError("gone"), subject="a.h5")
    with pytest.raises(H5zError) as caught:
        run_isolated(fail, ZeroDivisionError("a bug"), subject="a.h5")
    assert str(caught.value) == "a.h5: cannot be read (ZeroDivisionError: a bug)"


def test_what_libraries_print_is_no_answer() -> None:
    assert run_isolated(shout, subject="a.h5") == "this is"


def test_nothing_in_the_working_directory_is_imported(cli: Run, tmp_path: Path) -> None:
    """A folder of data may hold anything, a module of a library's name too."""
    import h5py

    for name in ("json", "h5py", "numpy", "pickle", "h5z"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1]
    code = "import sys; from h5z.cli import main; sys.argv = ['h5z', 'convert', 'a.h5', 'out.zarr']; main()"
    root = str(Path(h5z.__file__).parents[1])
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode == DONE


@pytest.mark.archive
@pytest.mark.skipif(not DATA.exists(), reason="no folder of real files")
def test_a_real_file_on_which_libhdf5_would_crash(cli: Run, tmp_path: Path) -> None:
    """A virtual dataset that is its own source: never handed to libhdf5."""
    source = next(DATA.rglob("vds_cyclic.h5"))
    for verb in ("convert", "plan"):
        done = cli(verb, source, tmp_path / "out.zarr")
        expect_one_line(done, 1, "vds_cyclic.h5", "its own source")
    assert list(tmp_path.iterdir()) == []
