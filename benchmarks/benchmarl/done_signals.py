"""BenchMARL's losses on multi-agent done signals: python -I benchmarl/done_signals.py CASES.json RESULT.json.

``benchmarks.done_signals`` runs this script with the Python of BenchMARL's environment, without masac. The losses are
those of BenchMARL's experiments on VMAS navigation: MASAC for centralized critics, ISAC for independent ones. The data
goes through BenchMARL's ``process_batch``, which expands flags of the whole team (as VMAS has them) to the agents.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarl.algorithms import IsacConfig, MasacConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from tensordict import TensorDict, TensorDictBase

GROUP, ROWS, N_AGENTS, HIDDEN = "agents", 16, 3, 16


def make_experiment(case: dict[str, Any], folder: str) -> Experiment:
    """An experiment with BenchMARL's defaults, except for weight sharing, the kind of actions and small networks."""
    task = VmasTask.NAVIGATION.get_from_yaml()
    task.config = {**task.config, "n_agents": N_AGENTS}
    algorithm = (MasacConfig if case["centralized"] else IsacConfig).get_from_yaml()
    algorithm.share_param_critic = case["shared"]
    model = MlpConfig.get_from_yaml()
    model.num_cells = [HIDDEN, HIDDEN]
    config = ExperimentConfig.get_from_yaml()
    settings = {
        "share_policy_params": case["shared"],
        "prefer_continuous_actions": case["actions"] == "continuous",
        "off_policy_n_envs_per_worker": 1,
        "off_policy_collected_frames_per_batch": 1,
        "max_n_frames": 1,
        "evaluation": False,
        "render": False,
        "loggers": [],
        "create_json": False,
        "save_folder": folder,
    }
    for name, value in settings.items():
        setattr(config, name, value)
    return Experiment(task=task, algorithm_config=algorithm, model_config=model, seed=0, config=config)


def make_batch(experiment: Experiment, case: dict[str, Any]) -> TensorDictBase:
    """Random rows in which agents end together or apart, with finite or NaN terminal observations."""
    shape = (ROWS, N_AGENTS)
    features = experiment.observation_spec[GROUP, "observation"].shape[-1]
    together = torch.rand(ROWS, 1) < 0.4
    terminated = torch.rand(*shape, 1) < 0.4 if case["ends"] == "apart" else together.unsqueeze(-1).expand(*shape, 1)
    following = {"observation": torch.randn(*shape, features), "reward": torch.randn(*shape, 1)}
    if case["nan"]:
        following["observation"][terminated.squeeze(-1)] = float("nan")
    root = {}
    if case["ends"] == "apart":
        following |= {"done": terminated.clone(), "terminated": terminated.clone()}
    else:
        root = {"done": together, "terminated": together.clone()}
    agents = TensorDict({"observation": torch.randn(*shape, features)}, shape)
    after = TensorDict({GROUP: TensorDict(following, shape), **root}, [ROWS])
    batch = TensorDict({GROUP: agents, "next": after}, [ROWS])
    with torch.no_grad():
        return experiment.policy(batch)  # adds actions and the other entries that collecting writes


def outcome(experiment: Experiment, case: dict[str, Any]) -> str:
    """The outcome of a case: finite, NaN or an exception."""
    torch.manual_seed(0)
    loss = experiment.losses[GROUP]
    loss.zero_grad(set_to_none=True)
    try:
        batch = experiment.algorithm.process_batch(GROUP, make_batch(experiment, case))
        losses = loss(batch)
        total = losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]
        total.backward()
    except Exception as error:  # every exception is an outcome
        return f"raises {type(error).__name__}"
    gradients = [parameter.grad for parameter in loss.parameters() if parameter.grad is not None]
    finite = torch.isfinite(total) and all(torch.isfinite(gradient).all() for gradient in gradients)
    return "finite" if finite else "NaN"


def main() -> None:
    """Run the cases, with one experiment per kind of networks."""
    warnings.filterwarnings("ignore")
    cases = json.loads(Path(sys.argv[1]).read_text())
    experiments: dict[tuple[Any, ...], Experiment] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            networks = (case["actions"], case["shared"], case["centralized"])
            if networks not in experiments:
                experiments[networks] = make_experiment(case, folder)
            case["outcome"] = outcome(experiments[networks], case)
        for experiment in experiments.values():
            experiment.close()
    packages = ("benchmarl", "torch", "torchrl", "tensordict", "vmas")
    result = {"cases": cases, "versions": {name: version(name) for name in packages}}
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
