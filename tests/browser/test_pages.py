"""TensorBoard and the report, as a browser shows them."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farl.experiment.loading import parse_config
from farl.experiment.run import train

OpenPage = Callable[..., Any]
SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "far": {
        "total_timesteps": 256,
        "environment": {
            "id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "n_envs": 2, "kwargs": {"max_steps": 40}
        },
        "algorithm": {"name": "PPO", "hyperparameters": SMALL},
        "far": {"warmup": 20, "criterion": {"name": "uniform", "every": 40}},
        "evaluation": {"freq": 128, "episodes": 1},
    },
    "map": {
        "total_timesteps": 4_000,
        "environment": {"id": "farl/MapWorld-Small-v0", "n_envs": 2, "kwargs": {"max_steps": 500}},
        "algorithm": {"name": "FARMap", "policy": "MultiInputPolicy"},
    },
    "sequence": {
        "total_timesteps": 128,
        "environment": {"id": "CartPole", "kind": "control", "n_envs": 2},
        "sequence": {"steps": 64, "episodes": 1, "tasks": [{"kwargs": {"level": 0}}, {"kwargs": {"level": 1}}]},
        "algorithm": {"name": "ParticlePPO", "hyperparameters": SMALL | {"n_particles": 2}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, experiment in EXPERIMENTS.items():
        path = folder / name
        path.mkdir()
        train(parse_config({"name": name, "device": "cpu", "torch_threads": 1, **experiment}), path)
    return folder


@pytest.fixture(scope="module")
def tensorboard(runs: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(runs),
        "--port",
        str(port),
        "--load_fast=false",
    ]
    server = subprocess.Popen(
        [*command, "--reload_multifile=true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: set(ask(f"{address}/data/runs")) == set(EXPERIMENTS), 120)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def ask(address: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait(ready: Callable[[], Any], seconds: float) -> Any:
    until = time.monotonic() + seconds
    while True:
        try:
            if found := ready():
                return found
        except OSError:
            pass
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.25)


def text_of(page: Any) -> str:
    """All that a page says, also inside the shadow of its components."""
    script = """
      const texts = [];
      const walk = (node) => {
        if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
        if (node.shadowRoot) walk(node.shadowRoot);
        if (node.nodeName !== 'STYLE' && node.nodeName !== 'SCRIPT') node.childNodes.forEach(walk);
      };
      walk(document.body);
      return texts.join(' ');
    """
    return " ".join(page.execute_script(script).split())


def test_tensorboard_shows_runs_by_their_names_in_every_tab(tensorboard: str, open_page: OpenPage) -> None:
    tabs = {
        "scalars": ("far", "map", "sequence", "exploration/coverage"),
        "images": ("evaluation/episode", "exploration/fragment_map", "exploration/memory_graph"),
        "text": ("config/table", "far.criterion.name", "gae_lambda"),
        "custom_scalars": ("What it explored", "exploration/episode_coverage (far)", "exploration/coverage (map)"),
        "hparams": ("algorithm.name", "ParticlePPO", "environment.id", "far.on", "sequence.on"),
    }
    page = open_page(tensorboard)
    for tab, words in tabs.items():
        page.get(f"{tensorboard}/#{tab}")
        page.refresh()
        wait(lambda words=words: all(word in text_of(page) for word in words), 90)
    assert "tensorboard/" not in text_of(page)
    assert "inspect._empty" not in text_of(page)


def test_tensorboard_has_the_pictures_of_each_kind(tensorboard: str) -> None:
    tags = {run: set(found) for run, found in ask(f"{tensorboard}/data/plugin/images/tags").items()}
    assert {"exploration/visits", "exploration/intrinsic_reward", "evaluation/episode"} <= tags["far"]
    assert {"exploration/worlds", "exploration/map", "exploration/timeline"} <= tags["map"]
    assert {"exploration/particles", "sequence/task_matrix"} <= tags["sequence"]


def test_tensorboard_compares_runs_by_all_settings_that_differ(tensorboard: str) -> None:
    experiment = ask(f"{tensorboard}/data/plugin/hparams/experiment", {"experimentName": ""})
    differ = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
    assert {"algorithm.name", "environment.id", "far.on", "sequence.on"} <= differ
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert "far.criterion.name" in names
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"exploration/coverage", "eval/mean_reward"} <= metrics


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_report_fits_its_window_and_its_slider_and_graph_answer(
    runs: Path, open_page: OpenPage, width: int, dark: bool
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page = open_page((runs / "far" / "report.html").as_uri(), width, dark)
    wait(lambda: page.find_elements(By.CSS_SELECTOR, "#graph .plot-container"), 30)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.get_log("browser") == []
    # The slider by keyboard: from the end of training to its beginning.
    slider, now = page.find_element(By.ID, "time"), page.find_element(By.ID, "now")
    end = now.text
    assert "timestep 256" in end
    slider.send_keys(Keys.HOME)
    assert wait(lambda: now.text != end, 10)
    assert "0 recalls so far" in now.text
    covered = page.execute_script("return document.getElementById('map').data[0].z.flat().filter((z) => z > 1).length")
    assert wait(lambda: covered < 20, 10)
    # The graph by mouse, then the list by keyboard.
    nodes = page.find_elements(By.CSS_SELECTOR, "#graph .scatterlayer .trace:last-child .point")
    assert len(nodes) > 1
    titles = set()
    for node in nodes[:2]:
        box = node.rect
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", page.find_element(By.ID, "graph"))
        box = page.execute_script(
            "const r = arguments[0].getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]", node
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            page.execute_cdp_cmd(
                "Input.dispatchMouseEvent", event | ({"button": "none"} if kind == "mouseMoved" else {})
            )
            time.sleep(0.1)
        time.sleep(0.3)
        titles.add(page.find_element(By.CSS_SELECTOR, "#fragment h3").text)
    assert len(titles) == 2
    page.find_element(By.ID, "choose").send_keys(Keys.HOME)
    assert "visits" in page.find_element(By.ID, "fragment").text


def test_report_of_a_sequence_shows_its_task_matrix(runs: Path, open_page: OpenPage) -> None:
    page = open_page((runs / "sequence" / "report.html").as_uri())
    shape = wait(
        lambda: page.execute_script("return document.getElementById('tasks').data[0].z.map((row) => row.length)"), 30
    )
    assert shape == [2, 2]


def test_events_that_were_cut_off_in_the_middle_still_open(runs: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (runs / "far").glob("events.*")
    content = events.read_bytes()
    cut = tmp_path / events.name
    cut.write_bytes(content[: len(content) * 2 // 3 + 7])
    log = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert 0 < len(log.Scalars("exploration/coverage")) <= 4
