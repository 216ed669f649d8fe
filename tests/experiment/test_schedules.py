import pickle

import pytest

from farl.experiment.schedules import parse_schedule


@pytest.mark.parametrize(
    ("text", "start", "middle", "end"),
    [
        ("linear(2.5e-4)", 2.5e-4, 1.25e-4, 0.0),
        ("linear(1, 0.5)", 1.0, 0.75, 0.5),
        ("constant(0.2)", 0.2, 0.2, 0.2),
        ("cosine(1)", 1.0, 0.5, 0.0),
        ("exponential(1, 0.01)", 1.0, 0.1, 0.01),
    ],
)
def test_schedule_goes_from_start_to_end(text: str, start: float, middle: float, end: float) -> None:
    schedule = parse_schedule(text)
    assert [schedule(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([start, middle, end])
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "linaer(1)",
        "linear()",
        "linear(1,2,3)",
        "linear(x)",
        "linear(-1)",
        "linear(nan)",
        "3e-4x",
        "linear(1",
        "exponential(1, 0)",
    ],
)
def test_bad_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|arguments|write"):
        parse_schedule(text)
