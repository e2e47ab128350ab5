"""The generated parts of the pages, and what the pages quote."""

import re
from dataclasses import asdict

import pytest
import yaml

import masac
from docs.generate import GENERATED, MARK, budgets, commands, config_keys, examples, filled
from docs.hooks import with_breaks, with_equations, with_whole_options
from masac.cli.composing import composed_experiment
from masac.cli.main import COMMANDS
from masac.cli.overrides import OPEN
from masac.cli.train_help import as_yaml
from masac.dotted_keys import flatten
from masac.training.checkpointing.resume import by_key
from masac.training.config import ExperimentConfig, config_without_presets
from tests.docs.pages import ROOT

KEYS = list(flatten(asdict(ExperimentConfig()), whole=OPEN))
QUOTED = re.findall(r"^### `(.*)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)


def test_every_key_has_its_default_and_a_meaning():
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` ?(.*?) \| (.+) \|$", config_keys(), re.MULTILINE)
    assert sorted(key for key, *_ in rows) == sorted(KEYS)
    table = {key: (default, unit, meaning) for key, default, unit, meaning in rows}
    default_run = by_key(composed_experiment(["run_dir=null"]))
    assert {key: table[key][0] for key in KEYS if key not in ("run_dir", *OPEN)} == {
        key: as_yaml(value) for key, value in default_run.items() if not key.startswith(("run_dir", *OPEN))
    }
    assert table["task.kwargs"][0].startswith("{n_agents: 3, collisions: true")
    assert table["training.batch_size"][1] == "rows"
    assert table["training.batch_size"][2].startswith("rows (all agents of a frame) per update.")
    bare = config_without_presets().training.total_frames  # the default of a task without a preset
    assert table["training.total_frames"][2].endswith(f"Without a preset: `{bare}`.")
    assert table["model.hidden"][:2] == ("[128, 128]", "units")
    assert table["training.max_grad_norm"][0] == "null"
    assert table["algorithm.share_actor"][0] == "true"


@pytest.mark.slow
def test_every_preset_has_its_frames_and_updates():
    table = budgets()
    assert len(re.findall(r"^\| `(?:vmas|pettingzoo)/\w+` \| [\d,]+ \| [\d,]+ \| \d+ \|$", table, re.MULTILINE)) >= 10
    training = composed_experiment(["run_dir=null"]).training
    updates = int((training.total_frames - training.warmup_frames) * training.updates_per_frame)
    assert f"| `vmas/navigation` | {training.total_frames:,} | {updates:,} | {training.batch_size} |" in table


def test_every_example_has_its_docstring_and_code():
    page = examples()
    for file in (ROOT / "examples").glob("*.py"):
        section = page.partition(f"## {file.name}\n")[2].partition("\n## ")[0]
        assert f"```text\npython examples/{file.name}" in section or f"python examples/{file.name}" in section
        assert f"    {file.read_text().splitlines()[-1].strip()}" in section


def test_equations_become_mathml():
    html = with_equations('<div class="arithmatex">\\[\na_i\n\\]</div> and <span class="arithmatex">\\(b\\)</span>')
    assert html.count("<math") == 2
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in html
    assert "arithmatex" not in html


@pytest.mark.parametrize(
    ("html", "right"),
    [
        ("<code>training.batch_size=8</code>", "<code>training.<wbr>batch_size=<wbr>8</code>"),
        (
            "<code>target_entropy_weight</code>",
            '<code>target_<wbr class="narrow">entropy_<wbr class="narrow">weight</code>',
        ),
        (
            "<code>GroupDiscreteSACLoss</code>",
            '<code>Group<wbr class="narrow">Discrete<wbr class="narrow">SACLoss</code>',
        ),
        (
            '<code>a | <a href="x.y/z">List[x.Yard]</a></code>',
            '<code>a | <a href="x.y/z">List[<wbr>x.<wbr>Yard]</a></code>',
        ),
        ("<pre><code>training.batch_size=8</code></pre>", "<pre><code>training.batch_size=8</code></pre>"),
        ("<code>a.alpha_init=0.25</code>", "<code>a.<wbr>alpha_init=<wbr>0.25</code>"),
        ("<code>metrics.csv</code>", "<code>metrics.csv</code>"),
        ("a.b/c <code>...</code> 0.5", "a.b/c <code>...</code> 0.5"),
    ],
)
def test_names_in_code_break_between_words_only(html: str, right: str):
    assert with_breaks(html) == right


def test_options_and_extras_in_code_do_not_break():
    html = with_whole_options('<code>a --venv x-y -m b ".[ray]"</code> --venv')
    whole = '<span class="whole">{}</span>'.format
    assert html == f'<code>a {whole("--venv")} x-y {whole("-m")} b "{whole(".[ray]")}"</code> --venv'


def test_every_command_is_described():
    page = commands()
    for command in COMMANDS:
        assert f"## masac {command}\n" in page
    assert "--checkpoint last|best|PATH" in page
    assert "training.total_frames=100000" not in page  # the keys have a page of their own


def test_marks_are_filled_anywhere_in_a_page():
    assert "| `seed` | `0` |" in filled("before\n\n<!-- generated: config -->\n\nafter")
    assert "## Where things live" in filled("<!-- file: CONTRIBUTING.md -->")
    used = {mark[2] for page in (ROOT / "docs").glob("*.md") for mark in MARK.finditer(page.read_text())}
    assert set(GENERATED) <= used


SOURCE = "".join(file.read_text() for file in sorted((ROOT / "masac").rglob("*.py")))
STRINGS = re.sub(r'"\s*f?"', "", SOURCE)  # strings of several lines are joined


def test_quoted_messages_are_in_the_source():
    patterns = {one: r"\{[^{}]*\}".join(re.escape(part) for part in one.split("…")) for one in QUOTED}
    assert [one for one, pattern in patterns.items() if not re.search(pattern, STRINGS)] == []


def test_quoted_messages_have_an_explanation():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    assert len(QUOTED) > 30
    for quoted in QUOTED:
        explanation = page.partition(f"### `{quoted}`\n\n")[2].partition("\n#")[0]
        assert len(explanation.strip()) > 30, quoted


def test_every_page_is_in_the_navigation():
    def names(part):
        return [part] if isinstance(part, str) else [n for one in part for n in names(next(iter(one.values())))]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(names(nav)) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_citation_has_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == masac.__version__


def test_numbers_of_the_pages_equal_the_results():
    from benchmarks.fill_docs_numbers import PAGES, with_numbers

    for page in PAGES:
        assert with_numbers(page.read_text()) == page.read_text(), page.name
