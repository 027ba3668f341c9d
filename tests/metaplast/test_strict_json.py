"""JSON is read strictly, and every error in it is reported in one sentence."""

import os
from pathlib import Path

import pytest
from support import assert_is_one_sentence

from metaplast.base.errors import UserError
from metaplast.base.files import read_json

WRONG = {
    "empty": (b"", "is not JSON"),
    "cut short": (b'{"a": [1,', "is not JSON .line 1, column 10."),
    "two values": (b"{} {}", "is not JSON"),
    "NaN": (b'{"a": NaN}', "it has NaN, which is not a number"),
    "infinity": (b"[-Infinity]", "it has -Infinity, which is not a number"),
    "overflow": (b"[1e999]", "too large a number"),
    "endless integer": (b"[1" + b"0" * 5000 + b"]", "whole number of 5001 digits"),
    "twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "it has 'c' twice"),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "deep objects": (b'{"a":' * 100_000, "nested too deep"),
    "bytes": (b"\x80\x81\xff", "not UTF-8 text"),
    "latin-1": ('{"a": "\xe9"}'.encode("latin-1"), "not UTF-8 text"),
    "half a character": (rb'{"a": "\ud800"}', "not UTF-8 text"),
}


@pytest.mark.parametrize(("raw", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_json_is_refused(tmp_path, raw, words):
    path = tmp_path / "data.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=words) as caught:
        read_json(path, "data")
    assert_is_one_sentence(caught.value)
    assert "data.json" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_skipped(tmp_path, encoding):
    (tmp_path / "data.json").write_bytes('{"Δ": [1, 2.5]}\r\n'.encode(encoding))
    assert read_json(tmp_path / "data.json", "data") == {"Δ": [1, 2.5]}


def test_an_escaped_pair_is_one_character(tmp_path):
    (tmp_path / "data.json").write_bytes(rb'"\ud83d\ude00"')
    assert read_json(tmp_path / "data.json", "data") == "\U0001f600"


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "is a folder"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "absent", "No such file"),
        (tmp_path / "a\0b", "null"),
        (tmp_path / ("a" * 300), "too long"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            read_json(path, "data")
        assert_is_one_sentence(caught.value)


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "data.json").write_text("[1]")
    (tmp_path / "link").symlink_to(tmp_path / "data.json")
    assert read_json(tmp_path / "link", "data") == [1]
