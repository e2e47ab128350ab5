"""Losses on multi-agent done signals: python -m benchmarks.done_signals [--benchmarl] [--json FILE].

The grid has 32 cases: continuous and discrete actions × shared and per-agent weights × independent and centralized
critics × agents that end together and apart × finite and NaN terminal observations. Every loss runs on it once for each
way to skip terminal states. A case is right if losses and gradients are finite and (only checked for masac, which has
``target_value``) the critic target of every terminated agent is its reward.

With --benchmarl the losses of BenchMARL's MASAC and ISAC run on the same grid, with BenchMARL's networks and the data
that its ``process_batch`` returns, in a separate virtual environment (--venv; it is created if needed). BenchMARL has
no option to skip terminal states.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.objectives import DiscreteSACLoss, SACLoss, ValueEstimators

from benchmarks.benchmarl.virtual_environment import default_folder, find_or_make
from benchmarks.report import print_table, write_json
from benchmarks.torchrl_networks import GROUP, action_spec, continuous_networks, discrete_networks
from masac import GroupDiscreteSACLoss, GroupSACLoss

ROWS, N_AGENTS, OBSERVATION, ACTION, N_ACTIONS, HIDDEN = 16, 3, 6, 2, 4, 16
GRID = list(
    itertools.product(("continuous", "discrete"), (True, False), (False, True), ("together", "apart"), (False, True))
)


def main() -> None:
    """Run the grid and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarl", action="store_true", help="run BenchMARL's losses too")
    parser.add_argument(
        "--venv", type=Path, default=default_folder(), help="BenchMARL's virtual environment; default: %(default)s"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    others = _run_benchmarl(arguments.venv) if arguments.benchmarl else {"cases": [], "versions": {}}
    cases = [
        {"loss": name, "skip": skip, **_case(*where), "outcome": _outcome(make, *where)}
        for name, skip, make in _losses()
        for where in GRID
    ] + others["cases"]
    outcomes = sorted({case["outcome"] for case in cases}, key=lambda outcome: (outcome != "finite", outcome))
    rows = _counted(cases)
    print_table(
        "done signals of shape [B, n_agents, 1], 16 cases per row",
        ("loss", "skip_done_states", "actions", *outcomes),
        [(row["loss"], row["skip"], row["actions"], *(row["outcomes"].get(o, 0) for o in outcomes)) for row in rows],
    )
    write_json(arguments.json, {"rows": rows, "benchmarl_versions": others["versions"]}, device="cpu")


def _counted(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts of the outcomes, by loss and kind of actions."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for case in cases:
        counts.setdefault((case["loss"], case["skip"], case["actions"]), Counter())[case["outcome"]] += 1
    return [
        {"loss": loss, "skip": skip, "actions": actions, "outcomes": dict(outcomes)}
        for (loss, skip, actions), outcomes in counts.items()
    ]


def _run_benchmarl(venv: Path) -> dict[str, Any]:
    python = find_or_make(venv)
    with tempfile.TemporaryDirectory() as folder:
        job, result = Path(folder, "cases.json"), Path(folder, "result.json")
        job.write_text(json.dumps([{"loss": "benchmarl", "skip": "-", **_case(*where)} for where in GRID]))
        script = Path(__file__).with_name("benchmarl") / "done_signals.py"
        subprocess.run([str(python), "-I", str(script), str(job), str(result)], check=True)
        return json.loads(result.read_text())


def _losses() -> list[tuple[str, str, Callable[..., Any]]]:
    return [
        ("torchrl", "False", lambda *networks: _torchrl_loss(*networks, skip=False)),
        ("torchrl", "True", lambda *networks: _torchrl_loss(*networks, skip=True)),
        ("masac", "False", lambda *networks: _masac_loss(*networks, skip=False)),
        ("masac", "fill", lambda *networks: _masac_loss(*networks, skip="fill")),
        ("masac", "drop", lambda *networks: _masac_loss(*networks, skip="drop")),
    ]


def _case(kind: str, share: bool, centralized: bool, ends: str, nan: bool) -> dict[str, Any]:
    return {"actions": kind, "shared": share, "centralized": centralized, "ends": ends, "nan": nan}


def _outcome(make: Callable[..., Any], kind: str, share: bool, centralized: bool, ends: str, nan: bool) -> str:
    torch.manual_seed(0)
    sizes = {"n_agents": N_AGENTS, "observation_dim": OBSERVATION, "hidden": HIDDEN, "share": share}
    if kind == "continuous":
        networks = continuous_networks(**sizes, action_dim=ACTION, centralized=centralized, device="cpu")
    else:
        networks = discrete_networks(**sizes, n_actions=N_ACTIONS, centralized=centralized)
    loss = make(kind, *networks)
    batch = _batch(kind, ends, nan)
    try:
        losses = loss(batch)
        total = losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]
        total.backward()
    except Exception as error:  # every exception is an outcome
        return f"raises {type(error).__name__}"
    gradients = [parameter.grad for parameter in loss.parameters() if parameter.grad is not None]
    if not (torch.isfinite(total) and all(torch.isfinite(gradient).all() for gradient in gradients)):
        return "NaN"
    terminated = batch["next", GROUP, "terminated"]
    if isinstance(loss, GroupSACLoss | GroupDiscreteSACLoss):
        target = loss.target_value(batch)
        if not torch.equal(target[terminated], batch["next", GROUP, "reward"][terminated]):
            return "wrong target"
    return "finite"


def _batch(kind: str, ends: str, nan: bool) -> TensorDict:
    shape = (ROWS, N_AGENTS)
    terminated = torch.rand(ROWS, 1, 1).lt(0.4).expand(*shape, 1) if ends == "together" else torch.rand(*shape, 1) < 0.4
    terminated = terminated.clone()
    next_observation = torch.randn(*shape, OBSERVATION)
    if nan:
        next_observation[terminated.squeeze(-1)] = float("nan")
    if kind == "continuous":
        action = torch.rand(*shape, ACTION) * 1.8 - 0.9
    else:
        action = torch.nn.functional.one_hot(torch.randint(N_ACTIONS, shape), N_ACTIONS)
    agents = TensorDict({"observation": torch.randn(*shape, OBSERVATION), "action": action}, shape)
    following = {
        "observation": next_observation,
        "reward": torch.randn(*shape, 1),
        "done": terminated,
        "terminated": terminated,
    }
    return TensorDict({GROUP: agents, "next": TensorDict({GROUP: TensorDict(following, shape)}, [ROWS])}, [ROWS])


def _torchrl_loss(kind: str, actor: Any, critic: Any, *, skip: bool) -> Any:
    names = ["action", "reward", "done", "terminated"]
    if kind == "continuous":
        loss = SACLoss(actor, critic, action_spec=action_spec(N_AGENTS, ACTION), skip_done_states=skip)
        names.append("state_action_value")
    else:
        loss = DiscreteSACLoss(actor, critic, action_space="one-hot", num_actions=N_ACTIONS, skip_done_states=skip)
        names.append("action_value")
    loss.set_keys(**{name: (GROUP, name) for name in names})
    loss.make_value_estimator(ValueEstimators.TD0, gamma=0.9)
    return loss


def _masac_loss(kind: str, actor: Any, critic: Any, *, skip: Any) -> Any:
    if kind == "discrete":
        return GroupDiscreteSACLoss(actor, critic, num_actions=N_ACTIONS, skip_done_states=skip, gamma=0.9)
    return GroupSACLoss(actor, critic, action_spec=action_spec(N_AGENTS, ACTION), skip_done_states=skip, gamma=0.9)


if __name__ == "__main__":
    main()
