"""Small experiments of BenchMARL's."""

from pathlib import Path
from typing import Any

import torch
from benchmarl.environments import PettingZooTask, VmasTask  # pyright: ignore[reportMissingImports]
from benchmarl.experiment import Experiment, ExperimentConfig  # pyright: ignore[reportMissingImports]
from benchmarl.models import (  # pyright: ignore[reportMissingImports]
    DeepsetsConfig,
    GnnConfig,
    GruConfig,
    MlpConfig,
    SequenceModelConfig,
)
from tensordict import TensorDict, TensorDictBase

Tanh, Linear = torch.nn.Tanh, torch.nn.Linear


def mlp() -> Any:
    return MlpConfig(num_cells=[16], activation_class=Tanh, layer_class=Linear)


def deepsets() -> Any:
    return DeepsetsConfig(
        aggr="mean",
        out_features_local_nn=8,
        local_nn_num_cells=[8],
        local_nn_activation_class=Tanh,
        global_nn_num_cells=[8],
        global_nn_activation_class=Tanh,
    )


def gru() -> Any:
    return GruConfig(
        hidden_size=8,
        n_layers=1,
        bias=True,
        dropout=0.0,
        compile=False,
        mlp_num_cells=[8],
        mlp_layer_class=Linear,
        mlp_activation_class=Tanh,
    )


def gnn() -> Any:
    from torch_geometric.nn import GraphConv  # pyright: ignore[reportMissingImports]

    network = GnnConfig(topology="full", self_loops=False, gnn_class=GraphConv, gnn_kwargs={})
    return SequenceModelConfig(model_configs=[network, mlp()], intermediate_sizes=[8])


MODELS = {"mlp": mlp, "deepsets": deepsets, "gru": gru, "gnn": gnn}


def settings(folder: Path, *, continuous: bool = True, **more: Any) -> Any:
    config = ExperimentConfig.get_from_yaml()
    fields = {
        "max_n_iters": 2,
        "max_n_frames": None,
        "gamma": 0.9,
        "prefer_continuous_actions": continuous,
        "off_policy_collected_frames_per_batch": 20,
        "off_policy_n_envs_per_worker": 2,
        "off_policy_n_optimizer_steps": 1,
        "off_policy_train_batch_size": 10,
        "off_policy_memory_size": 100,
        "evaluation": False,
        "render": False,
        "loggers": [],
        "create_json": False,
        "save_folder": str(folder),
    }
    for name, value in {**fields, **more}.items():
        assert hasattr(config, name)
        setattr(config, name, value)
    return config


def experiment(
    algorithm: Any,
    config: Any,
    *,
    task: str = "vmas/navigation",
    model: str = "mlp",
    critic: str = "mlp",
) -> Any:
    suite, name = task.split("/")
    tasks = {"vmas": VmasTask, "pettingzoo": PettingZooTask}[suite]
    return Experiment(
        task=tasks[name.upper()].get_from_yaml(),
        algorithm_config=algorithm,
        model_config=MODELS[model](),
        critic_model_config=MODELS[critic](),
        seed=0,
        config=config,
    )


def rows(of: Any, group: str = "agents", number: int = 6) -> TensorDictBase:
    """What the environment and a random policy do in that many rows, as the buffer has it."""
    data = of.test_env.rollout(-(-number // of.test_env.batch_size.numel()) + 1, break_when_any_done=False)
    return of.algorithm.process_batch(group, data).reshape(-1)[:number].clone()


def copied(data: TensorDictBase) -> TensorDict:
    """With entries of its own."""
    return TensorDict(data.to_dict(), data.batch_size)
