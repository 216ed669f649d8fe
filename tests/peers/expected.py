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
        "test_infinite_horizon[True-A2C]",
        ("shared",),
        "the same on-policy, where one critic learns both: 51.7 for 50, with a tolerance of 1",
    ),
    (
        "test_multiprocessing",
        ("off", "on", "shared", "default"),
        "worker processes cannot import the suite's own modules: the checkout around it is kept off the path",
    ),
    (
        "test_supports_multi_envs[SubprocVecEnv]",
        ("off", "on", "shared", "default"),
        "the same: of sb3-contrib's masked algorithm",
    ),
    (
        "test_load_invalid_object",
        ("off", "on", "shared", "default"),
        "it counts warnings, and FAR warns of the pickled function that lr_schedule holds as well",
    ),
    (
        "test_save_load[",
        ("on", "shared", "default"),
        "it leaves out the last part of the parameters, which is the curiosity's: what is left are those of a plain "
        "model, which set_parameters takes",
    ),
    (
        "test_performance_her",
        ("on", "shared"),
        "its bar, .9 of the episodes, holds for its seed alone: over seeds 0 to 4 plain DQN reaches .98, .62, .24, .72 "
        "and .96, and with a bonus .80, .90, .52, .72 and 1.0",
    ),
]
