"""The one reader and the one writer: regular files only, whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

import neurocompile
from neurocompile import NeurocompileError
from neurocompile.files import check_writable, read_input, through_links, write_output

posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs, links and umask of POSIX")


@posix
def test_a_fifo_is_neither_read_nor_replaced(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(NeurocompileError, match="NC1001.*not a regular file"):
        read_input(fifo, 100)
    with pytest.raises(NeurocompileError, match="NC5005.*FIFO"):
        write_output(fifo, b"x")
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@posix
def test_a_device_is_neither_read_nor_replaced():
    with pytest.raises(NeurocompileError, match="NC7003.*not a regular file"):
        read_input("/dev/null", 100, "NC7003")
    with pytest.raises(NeurocompileError, match="NC5005"):
        write_output("/dev/null", b"x")


def test_a_folder_is_neither_read_nor_replaced(tmp_path):
    with pytest.raises(NeurocompileError, match="NC1001"):
        read_input(tmp_path, 100)
    with pytest.raises(NeurocompileError, match="NC5005.*folder"):
        write_output(tmp_path, b"x")


@posix
def test_a_link_is_read_through_and_never_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    assert read_input(link, 100) == b"old"
    with pytest.raises(NeurocompileError, match="NC5005.*link to .*target"):
        write_output(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"old"
    with through_links():
        write_output(link, b"new")
        with through_links(False):  # one within another takes nothing away
            assert check_writable(link) == target.resolve()
    assert link.is_symlink() and target.read_bytes() == b"new"
    with pytest.raises(NeurocompileError, match="NC5005.*link to"):
        write_output(link, b"newer")


@posix
def test_through_links_devices_and_circles_are_refused_all_the_same(tmp_path):
    names = ("fifo", "to_fifo", "to_device", "circle", "later", "missing")
    fifo, to_fifo, to_device, circle, later, missing = (tmp_path / name for name in names)
    os.mkfifo(fifo)
    to_fifo.symlink_to(fifo)
    to_device.symlink_to("/dev/null")
    circle.symlink_to(circle)
    later.symlink_to(missing)
    with through_links():
        for link in (to_fifo, to_device, circle):
            with pytest.raises(NeurocompileError, match="NC5005"):
                write_output(link, b"new")
        write_output(later, b"made")
    assert missing.read_bytes() == b"made" and later.is_symlink()
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_decides_the_rights(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_output(tmp_path / "f", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def test_what_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def halfway(file):
        file.write(b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(NeurocompileError, match="NC5005.*No space left"):
        write_output(path, halfway)
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_names_that_no_file_has_are_an_error_of_ours(name, tmp_path):
    with pytest.raises(NeurocompileError, match="NC5005"):
        write_output(tmp_path / name, b"x")
    with pytest.raises(NeurocompileError, match="NC1001"):
        read_input(tmp_path / name, 100)


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert read_input(tmp_path / "f", 5) == b"12345"
    with pytest.raises(NeurocompileError, match="NC1001.*larger than 4 bytes"):
        read_input(tmp_path / "f", 4)


@posix
def test_killed_at_any_moment_a_writer_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "f"
    old, new = b"o" * 100_000, b"n" * 3_000_000
    path.write_bytes(old)
    code = (
        "import sys; from neurocompile.files import write_output\n"
        "print('ready', flush=True)\n"
        "while True: write_output(sys.argv[1], b'n' * 3_000_000)"
    )
    for delay in (0.0, 0.003, 0.01, 0.02):
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert path.read_bytes() in (old, new)
    write_output(path, b"again")  # what a killed writer left is in nobody's way
    assert path.read_bytes() == b"again"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("nir", "NC1001"), ("net", "NC1001"), ("target", "NC3001"), ("profile", "NC7001")],
)
def test_a_fifo_in_place_of_a_description_is_named_at_once(kind, code, tmp_path):
    """By what it is: neither waited for nor called a file that is not there."""
    from neurocompile.energy.profile import load_profile
    from neurocompile.targets import load_target

    fifo = tmp_path / f"fifo.{ {'target': 'yaml', 'profile': 'yaml'}.get(kind, kind) }"
    os.mkfifo(fifo)
    if kind in ("nir", "net"):
        pytest.importorskip("h5py")
        read = neurocompile.open
    else:
        read = load_target if kind == "target" else load_profile
    with pytest.raises(NeurocompileError, match="it is not a regular file") as caught:
        read(fifo)
    assert caught.value.code == code
