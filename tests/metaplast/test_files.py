"""Files are whole or not there, and checkpoints hold plain data that never runs."""

import json
import os
import pickle
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch
from support import LIGHT, assert_is_one_sentence, entries, seeded

from metaplast.base import files
from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError
from metaplast.base.files import (
    LOCK,
    FileError,
    claim_folder,
    new_folder,
    read_json,
    write_atomically,
    write_json,
    write_text,
)
from metaplast.base.locks import locked


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def fail(stream):
        stream.write(b"half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["kept.txt"]


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("first", "second"):  # made, then replaced
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert entries(tmp_path) == ["elsewhere", "link.txt"]
    assert entries(tmp_path / "elsewhere") == ["target.txt"]
    (tmp_path / "round.txt").symlink_to("round.txt")
    with pytest.raises(FileError, match="cannot write") as caught:
        write_text(tmp_path / "round.txt", "x")
    assert_is_one_sentence(caught.value)


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert entries(tmp_path) == ["pipe"]


def test_a_device_is_written_to():
    before = Path("/dev/null").stat()
    write_text(Path("/dev/null"), "gone")
    assert os.path.samestat(before, Path("/dev/null").stat())
    with pytest.raises(FileError, match="No space left on device; free some space") as caught:
        write_text(Path("/dev/full"), "x")
    assert_is_one_sentence(caught.value)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("piped", [False, True])
def test_standard_output_keeps_what_is_printed_before_and_after(tmp_path, name, piped):
    code = (
        LIGHT + "from pathlib import Path; from metaplast.base.files import write_text; "
        f"print('before'); write_text(Path({name!r}), 'text\\n'); print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE if piped else out
        )
    printed = done.stdout if piped else (tmp_path / "out").read_bytes()
    assert printed == b"before\ntext\nafter\n"


def test_a_file_keeps_its_mode_and_may_have_the_longest_name(tmp_path):
    path = tmp_path / ("x" * 255)
    write_text(path, "old")
    path.chmod(0o600)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert entries(tmp_path) == ["x" * 255]


def test_what_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path, tmp_path / "none" / "x", tmp_path / ("x" * 256)):
        with pytest.raises(FileError, match="cannot write") as caught:
            write_text(path, "x")
        assert_is_one_sentence(caught.value)
        assert isinstance(caught.value, OSError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert entries(tmp_path) == ["folder"]


def test_others_may_read_a_file_as_any_other_of_the_user(tmp_path):
    plain, path = tmp_path / "plain.txt", tmp_path / "kept.txt"
    plain.write_text("made by open")
    write_text(path, "new")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def write(stream):
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["kept.txt"]


def test_text_and_json_keep_their_signs(tmp_path):
    write_json(tmp_path / "a.json", {"Δ": [1, 0.1, None, "−"]})
    assert read_json(tmp_path / "a.json", "data") == {"Δ": [1, 0.1, None, "−"]}
    assert "Δ" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_do_not_overwrite(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, value)
    assert json.loads(path.read_text()) == 1


def test_a_folder_is_claimed_once(tmp_path):
    folder = tmp_path / "runs" / "first"
    claim_folder(folder)
    claim_folder(folder)  # still empty
    assert entries(folder) == []
    # Left by a command that was killed while it wrote its first file.
    for name in (".config.json.0123456789abcdef", LOCK):
        (folder / name).write_text("{")
    claim_folder(folder)
    with locked(folder):
        assert entries(folder) == [LOCK]
    assert entries(folder) == []
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not empty") as caught:
        claim_folder(folder)
    assert_is_one_sentence(caught.value)
    assert "--resume" in str(caught.value)
    with pytest.raises(UserError, match=r"give --out a new folder\.$"):
        claim_folder(folder, resumable=False)
    assert entries(folder) == ["config.json"]


def test_commands_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(files, "datetime", Stopped)
    monkeypatch.chdir(tmp_path)
    names = [str(new_folder(None, kind)) for kind in ("", "", "sweep", "")]
    stamp = "2026-01-02_03-04-05"
    assert names == [f"runs/{stamp}", f"runs/{stamp}-2", f"runs/sweep-{stamp}", f"runs/{stamp}-3"]
    assert sorted(entries(tmp_path / "runs")) == sorted(Path(name).name for name in names)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "runs").write_text("a file")
    monkeypatch.chdir(tmp_path / "blocked")
    with pytest.raises(UserError, match="cannot write to the folder"):
        new_folder(None)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot write to the folder") as caught:
            claim_folder(path)
        assert_is_one_sentence(caught.value)


# --- checkpoints ---

DATA = {
    "stages": {"search": {"u": torch.rand(3, generator=seeded()), "step": 7, "names": ["a", None]}},
    "seconds": 1.5,
}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, DATA)
    return path


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def test_a_checkpoint_comes_back(checkpoint):
    assert same(load_checkpoint(checkpoint), DATA)


def test_a_failed_checkpoint_leaves_the_last_one(checkpoint):
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(checkpoint, {"no": (x for x in ())})
    assert same(load_checkpoint(checkpoint), DATA)
    assert entries(checkpoint.parent) == [checkpoint.name]


def test_a_truncated_checkpoint_is_refused(checkpoint):
    whole = checkpoint.read_bytes()
    for length in (0, 1, 3, 10, 100, *range(200, len(whole), 97), len(whole) - 1):
        checkpoint.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged") as caught:
            load_checkpoint(checkpoint)
        assert_is_one_sentence(caught.value)


def test_a_damaged_checkpoint_is_refused_or_harmless(checkpoint):
    whole = bytearray(checkpoint.read_bytes())
    contents = whole.index(b"PK\x01\x02")  # where the archive's own directory begins
    for place in range(0, contents, 3):
        spoiled = bytearray(whole)
        spoiled[place] ^= 0xFF
        checkpoint.write_bytes(spoiled)
        try:
            data = load_checkpoint(checkpoint)
        except UserError:
            continue
        assert same(data, DATA), f"byte {place} changed the data unnoticed"


class Exploit:
    """On loading, creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "inside"])
def test_code_in_a_foreign_file_is_never_run(tmp_path, kind):
    path, target = tmp_path / "checkpoint.pt", tmp_path / "touched"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Exploit(target)))
    elif kind == "torch":
        torch.save(Exploit(target), path)
    else:
        save_checkpoint(path, {"stages": Exploit(target)})
    with pytest.raises(UserError, match="not a metaplast checkpoint"):
        load_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert target.exists(), "the exploit would have worked"


FOREIGN = {
    "a model": {"weight": torch.zeros(2)},
    "a list": [1, 2],
    "another version": {"format": "metaplast-checkpoint", "version": 2, "data": {}},
    "no data": {"format": "metaplast-checkpoint", "version": 1},
    "data of another kind": {"format": "metaplast-checkpoint", "version": 1, "data": [1]},
}


@pytest.mark.parametrize("payload", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_checkpoints_are_refused(tmp_path, payload):
    torch.save(payload, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError) as caught:
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 600])
def test_any_other_file_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert_is_one_sentence(caught.value)


def test_a_missing_checkpoint_is_refused(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(UserError, match="cannot read a checkpoint") as caught:
            load_checkpoint(path)
        assert_is_one_sentence(caught.value)
