"""Soft Actor-Critic for groups of agents, on PyTorch, TorchRL and TensorDict.

The names below are imported when first used, so that ``masac --help`` need not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masac.algorithm import AlgorithmConfig
    from masac.cli.composing import load_config
    from masac.envs.config import TaskConfig
    from masac.errors import ConfigError, RunFailedError
    from masac.losses.discrete_sac import GroupDiscreteSACLoss
    from masac.losses.hybrid_sac import GroupHybridSACLoss
    from masac.losses.multi_group import MultiGroupLoss
    from masac.losses.options import GroupLossOptions
    from masac.losses.sac import GroupSACLoss
    from masac.networks.actors import make_categorical_actor, make_tanh_normal_actor
    from masac.networks.config import ModelConfig
    from masac.networks.critics import make_critic
    from masac.networks.hybrid_actor import make_hybrid_actor
    from masac.networks.memory import GroupMemory
    from masac.networks.other_group import OtherGroup
    from masac.networks.own import NetworkSpec
    from masac.signals import align_signal, expand_to_agents, reduce_over_agents
    from masac.training.callbacks import Callback
    from masac.training.collectors.config import CollectorConfig
    from masac.training.config import (
        CheckpointConfig,
        EvaluationConfig,
        ExperimentConfig,
        LoggingConfig,
        TrainingConfig,
    )
    from masac.training.policies.saved_env import load_env
    from masac.training.policies.saved_policy import load_policy
    from masac.training.result import RunResult
    from masac.training.trainer import Trainer
    from masac.training.update import UpdateStep

__version__ = "0.1.0"

__all__ = [
    "AlgorithmConfig",
    "Callback",
    "CheckpointConfig",
    "CollectorConfig",
    "ConfigError",
    "EvaluationConfig",
    "ExperimentConfig",
    "GroupDiscreteSACLoss",
    "GroupHybridSACLoss",
    "GroupLossOptions",
    "GroupMemory",
    "GroupSACLoss",
    "LoggingConfig",
    "ModelConfig",
    "MultiGroupLoss",
    "NetworkSpec",
    "OtherGroup",
    "RunFailedError",
    "RunResult",
    "TaskConfig",
    "Trainer",
    "TrainingConfig",
    "UpdateStep",
    "align_signal",
    "expand_to_agents",
    "load_config",
    "load_env",
    "load_policy",
    "make_categorical_actor",
    "make_critic",
    "make_hybrid_actor",
    "make_tanh_normal_actor",
    "reduce_over_agents",
]

_HOMES = {
    "AlgorithmConfig": "masac.algorithm",
    "Callback": "masac.training.callbacks",
    "CheckpointConfig": "masac.training.config",
    "CollectorConfig": "masac.training.collectors.config",
    "ConfigError": "masac.errors",
    "EvaluationConfig": "masac.training.config",
    "ExperimentConfig": "masac.training.config",
    "GroupDiscreteSACLoss": "masac.losses.discrete_sac",
    "GroupHybridSACLoss": "masac.losses.hybrid_sac",
    "GroupLossOptions": "masac.losses.options",
    "GroupMemory": "masac.networks.memory",
    "GroupSACLoss": "masac.losses.sac",
    "LoggingConfig": "masac.training.config",
    "ModelConfig": "masac.networks.config",
    "MultiGroupLoss": "masac.losses.multi_group",
    "NetworkSpec": "masac.networks.own",
    "OtherGroup": "masac.networks.other_group",
    "RunFailedError": "masac.errors",
    "RunResult": "masac.training.result",
    "TaskConfig": "masac.envs.config",
    "Trainer": "masac.training.trainer",
    "TrainingConfig": "masac.training.config",
    "UpdateStep": "masac.training.update",
    "align_signal": "masac.signals",
    "expand_to_agents": "masac.signals",
    "load_config": "masac.cli.composing",
    "load_env": "masac.training.policies.saved_env",
    "load_policy": "masac.training.policies.saved_policy",
    "make_categorical_actor": "masac.networks.actors",
    "make_critic": "masac.networks.critics",
    "make_hybrid_actor": "masac.networks.hybrid_actor",
    "make_tanh_normal_actor": "masac.networks.actors",
    "reduce_over_agents": "masac.signals",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'masac' has no attribute {name!r}; it has {sorted(_HOMES)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
