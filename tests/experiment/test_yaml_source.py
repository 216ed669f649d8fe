from pathlib import Path

import pytest

from farl.errors import ConfigError
from farl.experiment.yaml_source import parse_value, read_yaml, write_yaml


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_scientific_notation_is_a_number_and_no_is_a_word(tmp_path: Path) -> None:
    data = read_yaml(written(tmp_path, "a: 1e6\nb: 2.5e-4\nc: no\nd: 100_000\n")).data
    assert data == {"a": 1e6, "b": 2.5e-4, "c": "no", "d": 100_000}
    assert isinstance(data["a"], float)


def test_what_is_written_is_read_as_it_was() -> None:
    data = {"a": ["no", "yes", "1e6", "on", "~", "010", "0x1f", "1_000", "", "12:30", ".5", "true", "null", "x: y"]}
    data |= {"b": [1e6, 1e-7, 5, -3, None, True, False, 0.1 + 0.2], "c": {"d": {}, "e": []}, "f": "ü\n#"}
    assert parse_value(write_yaml(data, "# header\n")) == data
    assert parse_value("010") == 10
    assert parse_value("0o10") == 8
    assert parse_value("[.inf, -.inf]") == [float("inf"), float("-inf")]


def test_every_key_remembers_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\nb:\n  c:\n    d: 2\n")
    assert read_yaml(path).origins == {
        ("a",): f"{path}:1",
        ("b",): f"{path}:2",
        ("b", "c"): f"{path}:3",
        ("b", "c", "d"): f"{path}:4",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("a: 1\nb: 2\na: 3\n", r"x\.yaml:3: duplicate key 'a'"),
        (b"\x89PNG\r\n\x00\x1a", "binary"),
        (b"seed: \xff\xfe", "UTF-8"),
        ("- a\n- b\n", "found a list"),
        ("hello", "found a single piece of text"),
        ("a: : b", r"x\.yaml:1: not valid YAML"),
        ("a:\n\t- b", r"x\.yaml:2: not valid YAML"),
        ("[" * 100_000, "nested more than"),
        ("a: &x [1]\nb: [*x, *x]\n", r"x\.yaml:2: aliases"),
        ("a: &x [*x]", "aliases"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("1: x", "not a word"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: " + "x" * 2_000_000, "larger than"),
    ],
)
def test_bad_file_is_one_error_that_names_it(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(written(tmp_path, content))
    (problem,) = caught.value.problems
    assert "x.yaml" in problem
    assert "\n" not in problem


def test_directory_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_override_values_are_read_as_yaml() -> None:
    assert [parse_value(text) for text in ("1e6", "null", "[64, 64]", "true", "linear(3e-4)")] == [
        1e6,
        None,
        [64, 64],
        True,
        "linear(3e-4)",
    ]
    with pytest.raises(ConfigError, match=r"net_arch:2: not valid YAML"):
        parse_value("[1, 2", "net_arch")


def test_written_yaml_reads_back_as_it_was(tmp_path: Path) -> None:
    data = {"b": 1e-5, "a": None, "list": [1, {"x": "no"}], "text": "1e6", "flag": True}
    assert read_yaml(written(tmp_path, write_yaml(data, "# header\n"))).data == data
