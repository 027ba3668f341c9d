"""Tasks, and targets from files."""

import math

import numpy as np
import pytest
from support import refusal

from metaplast.reservoirs.targets import butterfly, checked, read_points, resampled
from metaplast.reservoirs.tasks import PEN, Task, get_task


def test_the_butterfly_is_the_published_one():
    curve = butterfly(101)
    for step in (0, 17, 50, 100):
        theta = 2 * math.pi * step / 100
        radius = 9 - math.sin(theta) + 2 * math.sin(3 * theta) + 2 * math.sin(5 * theta)
        radius += -math.sin(7 * theta) + 3 * math.cos(2 * theta) - 2 * math.cos(4 * theta)
        expected = [radius / 14.4734 * math.cos(theta), radius / 14.4734 * math.sin(theta)]
        np.testing.assert_allclose(curve[step], expected, atol=1e-14)


def test_positions_are_plain_trigonometry():
    arm, z = get_task("arm:3"), [0.1, -0.3, 0.25]
    x = y = angle = 0.0
    for length, turn in zip((1.8, 1.2, 0.6), z, strict=True):
        angle += math.pi * turn
        x, y = x + length * math.sin(angle), y + length * math.cos(angle)
    np.testing.assert_allclose(arm.position(np.array(z)), [x, y - 2], atol=1e-14)
    np.testing.assert_allclose(PEN.position(np.array([0.5, 0.1])), [0.5, 0.1])


@pytest.mark.parametrize("text", ["pen", "arm:2", "arm:3", "arm:1,2.5,0.25"])
def test_a_task_is_written_as_it_is_read(text):
    assert get_task(text).name == text
    assert get_task("arm:1.8,1.8") == get_task("arm:2")


@pytest.mark.parametrize("text", ["pencil", "pen:2", "arm", "arm:", "arm:4", "arm:x,y", "arm:1,-1",
                                  "arm:nan,1", "arm:1e308,1e308"])  # fmt: skip
def test_other_tasks_are_refused(text):
    assert refusal(get_task, text)


def test_an_arm_says_what_it_cannot_reach():
    target = butterfly(100)
    get_task("arm:2").require_reach(target)
    assert "reaches 2 from its shoulder" in refusal(Task((1.5, 0.5)).require_reach, target)
    near = np.array([[0.0, -2.0], [0.0, 0.0]])
    assert "cannot reach points nearer than 2 " in refusal(Task((3.0, 1.0)).require_reach, near)
    PEN.require_reach(10 * target)


def test_targets_are_read_from_files(tmp_path):
    points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    np.savez(tmp_path / "points.npz", points=points)
    np.savez(tmp_path / "xy.npz", x=points[:, 0], y=points[:, 1])
    rows = "\n".join(f"{x},{y}" for x, y in points)
    (tmp_path / "plain.csv").write_text(rows)
    (tmp_path / "head.csv").write_text("x,y\n" + rows + "\n")
    for name in ("points.npz", "xy.npz", "plain.csv", "head.csv"):
        np.testing.assert_array_equal(read_points(tmp_path / name), points)
    square = resampled(points, 8)
    np.testing.assert_allclose(square[1::2], [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]])
    np.testing.assert_allclose(square[::2], points)


@pytest.mark.parametrize(
    "contents",
    [
        "0,0\n1,0\n0,1", "\ufeff0,0\n1,0\n0,1", "x,y\r\n0,0\r\n1,0\r\n0,1\r\n",
        "y,x\n0,0\n0,1\n1,0", "t, X, Y\n0,0,0\n1,1,0\n2,0,1\n , ,\n",
    ],
)  # fmt: skip
def test_columns_are_taken_by_their_names_and_no_point_is_lost(contents, tmp_path):
    path = tmp_path / "target.csv"
    path.write_text(contents, encoding="utf-8")
    np.testing.assert_array_equal(read_points(path), [[0, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize(
    "contents",
    [
        "", "1,2", "x,y\n1,2", "1,2\n3", "1,2\n3,four", "1,2,3\n4,5,6", "1,2\nnan,3",
        "O,0\n1,0\n0,1", "a,b\n0,0\n1,0", "x,x\n0,0\n1,0", "x,y,x\n0,0,1\n1,0,1",
        "0,0\n1e308,0", f"0,0\n{'1' * 140_000},0",
    ],
)  # fmt: skip
def test_damaged_targets_are_refused(contents, tmp_path):
    path = tmp_path / "target.csv"
    path.write_text(contents)
    assert str(path) in refusal(read_points, path)
    assert "none.csv" in refusal(read_points, tmp_path / "none.csv")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    assert "bad.npz" in refusal(read_points, tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "points",
    [
        np.array([[0, 1j], [1, 1]]), np.array([["0", "1"], ["1", "1"]]),
        np.array([["2020-01-01", "2020-01-02"]] * 2, "datetime64[D]"), [[0, 1], [2]], None, "xy",
    ],
)  # fmt: skip
def test_what_is_no_real_number_is_not_drawn(points, tmp_path):
    assert "two numbers each" in refusal(checked, points, "target")
    if isinstance(points, np.ndarray):
        np.savez_compressed(tmp_path / "points.npz", points=points)
        assert "points.npz is not a target" in refusal(read_points, tmp_path / "points.npz")


def test_a_damaged_compressed_target_is_refused(tmp_path):
    path = tmp_path / "points.npz"
    np.savez_compressed(path, points=np.random.default_rng(0).normal(size=(50, 2)))
    raw = bytearray(path.read_bytes())
    raw[100:140] = bytes(40)
    path.write_bytes(raw)
    assert "points.npz is not a target" in refusal(read_points, path)
