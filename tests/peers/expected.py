"""What is expected to differ when SB3's and sb3-contrib's own tests run with ``FAR(X)``: part of a test's id, the
modes it concerns, and why."""

EXPECTED: list[tuple[str, tuple[str, ...], str]] = []
