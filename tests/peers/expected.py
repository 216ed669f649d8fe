"""What is expected to differ when SB3's and sb3-contrib's own tests run with ``FAR(X)``: part of a test's id, the
modes it concerns, and why."""

EXPECTED: list[tuple[str, tuple[str, ...], str]] = [
    (
        "test_infinite_horizon[True-SAC]",
        ("on", "shared"),
        "it compares the value of a state with the discounted sum of the environment's rewards alone, and off-policy "
        "the critic learns the bonus, too",
    ),
    (
        "test_performance_her",
        ("on", "shared"),
        "a goal is reached by nine episodes of ten after 1 500 steps without a bonus, and by eight with it: agents "
        "also go where it is new",
    ),
]
