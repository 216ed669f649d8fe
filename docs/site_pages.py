"""Pages of the site that are written from the project itself: nothing in them is typed twice.

- the start page from the README, and those on contributing and changes
- the reference of commands, YAML keys and API from the code
- a page for each folder of ``benchmarks/results``

Links that lead out of ``docs/`` in the repository lead to these pages on the site.
"""

import json
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for benchmarks

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
_ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_API = {
    "farl": "What most scripts need",
    "farl.sb3": "FAR for Stable-Baselines3",
    "farl.curiosity": "Curiosity modules",
    "farl.fragmentation": "Criteria and recall",
    "farl.memory": "Long-term memory",
    "farl.maps": "Local maps",
    "farl.particles": "Particle filters",
    "farl.continual": "Continual learning",
    "farl.agents": "Agents",
    "farl.envs": "Environments",
    "farl.experiment.run": "Training from a configuration",
    "farl.experiment.statistics": "Statistics of runs",
}
_LINK = re.compile(r"(\]\(|src=\")([^)\s\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, target in _ROOT_PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    files.append(File.generated(config, "reference/yaml.md", content=yaml_page()))
    files.append(File.generated(config, "reference/api.md", content=api_index()))
    for package in _API:
        files.append(File.generated(config, f"reference/api/{package}.md", content=f"# {package}\n\n::: {package}\n"))
    folders = sorted(path.parent for path in RESULTS.glob("*/table.md"))
    files.append(File.generated(config, "results/index.md", content=results_index(folders)))
    for folder in folders:
        files.append(File.generated(config, f"results/{folder.name}.md", content=results_page(folder)))
        for picture in folder.glob("*.png"):
            files.append(File.generated(config, f"results/{folder.name}/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links into the repository to the pages of the site."""
    uri = page.file.src_uri
    origin = {target: name for name, target in _ROOT_PAGES.items()}.get(uri, f"docs/{uri}")
    return _LINK.sub(lambda match: match[1] + _on_site(match[2], origin, uri), markdown)


def _on_site(link: str, origin: str, uri: str) -> str:
    """A link of a file in the repository as it is on the site; others stay."""
    if "://" in link or link.startswith(("mailto:", "data:")):
        return link
    place = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    target: str | None = None
    if place in _ROOT_PAGES:
        target = _ROOT_PAGES[place]
    elif place.startswith("docs/") and origin in _ROOT_PAGES:
        target = place.removeprefix("docs/")
    elif match := re.fullmatch(r"benchmarks/results/([^/]+)(/table\.md)?", place):
        target = f"results/{match[1]}.md"
    elif place == "benchmarks/results":
        target = "results/index.md"
    elif match := re.fullmatch(r"benchmarks/results/(.+\.png)", place):
        target = f"results/{match[1]}"
    return link if target is None else posixpath.relpath(target, posixpath.dirname(uri) or ".")


def commands_page() -> str:
    """Every command with its arguments, from the parser itself."""
    from farl.cli import _parsers

    parser, commands = _parsers()
    os.environ["COLUMNS"] = "100"
    parts = ["# Commands", "`farl COMMAND --help` prints the same.", f"```text\n{parser.format_help()}```"]
    for name, sub in commands.items():
        parts.append(f"## farl {name}\n\n{sub.description}\n\n```text\n{sub.format_help()}```")
    return "\n\n".join(parts) + "\n"


def yaml_page() -> str:
    """Every key of a YAML file, from the JSON Schema."""
    from farl.experiment.schema import json_schema

    schema = json_schema()
    parts = [
        "# YAML keys",
        "`farl schema` prints them as JSON Schema, by which editors complete and check a file that begins with "
        "`# yaml-language-server: $schema=schema.json`. `far.criterion.threshold=4` on a command line sets the key "
        "`threshold` of the section `far.criterion`.",
        "## Top level",
        _keys(schema["properties"], schema),
    ]
    for name, definition in schema["$defs"].items():
        if "properties" not in definition:
            continue
        told = definition.get("description", "").replace("\n", " ")
        parts += [f"## {name}", told, _keys(definition["properties"], schema)]
    parts.append("## Hyperparameters")
    for rule in schema["$defs"]["AlgorithmConfig"]["allOf"]:
        name = rule["if"]["properties"]["name"]["const"]
        known = rule["then"]["properties"]["hyperparameters"]["properties"]
        parts += [f"### {name}", _keys(known, schema)]
    return "\n\n".join(parts) + "\n"


def _keys(properties: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, entry in properties.items():
        default = entry.get("default", "")
        told = "" if default == "" and "default" not in entry else f"`{_yaml(default)}`"
        meaning = " ".join(str(entry.get("description", "")).split())
        rows.append(f"| `{key}` | {' or '.join(_types(entry))} | {_cell(told)} | {_cell(meaning)} |")
    return "\n".join(rows)


def _yaml(value: Any) -> str:
    return json.dumps(value)


def _types(entry: dict[str, Any]) -> Iterator[str]:
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        yield f"[{name}](#{name.lower()})"
    elif "enum" in entry or "const" in entry:
        yield ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    elif "anyOf" in entry or "oneOf" in entry:
        for option in entry.get("anyOf") or entry["oneOf"]:
            yield from _types(option)
    else:
        yield str(entry.get("type", "anything"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def api_index() -> str:
    """The packages, with a line for each."""
    rows = [f"| [`{package}`](api/{package}.md) | {told} |" for package, told in _API.items()]
    return "\n".join(["# API", "", "| package | what |", "|---|---|", *rows]) + "\n"


def results_index(folders: list[Path]) -> str:
    """All results by name."""
    from benchmarks._results import read_results

    rows = []
    for folder in folders:
        if not (folder / "results.json").exists():  # what is not made of runs with seeds has its table alone
            rows.append(f"| [{folder.name}]({folder.name}.md) | see its page | |")
            continue
        found = read_results(folder / "results.json")
        command = re.sub(r" --out \S+", "", found["command"])
        rows.append(f"| [{folder.name}]({folder.name}.md) | `{command}` | {found['date'][:10]} |")
    head = [
        "# Results",
        "",
        "One page a benchmark, written from `benchmarks/results`, where the runs lie. Each names its command, date, "
        "machine and number of runs.",
        "",
        "| results | command | date |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def results_page(folder: Path) -> str:
    """The table of a benchmark with its pictures."""
    from benchmarks._results import read_results, table

    pictures = [f"![{picture.stem}]({folder.name}/{picture.name})" for picture in sorted(folder.glob("*.png"))]
    runs = folder / "results.json"
    shown = table(read_results(runs)) if runs.exists() else (folder / "table.md").read_text(encoding="utf-8")
    return "\n\n".join([shown, *pictures]) + "\n"
