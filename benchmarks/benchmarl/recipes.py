"""The recipe that masac and BenchMARL both train with: as overrides for masac, and as settings for BenchMARL.

BenchMARL's settings are read from masac's composed config, so that the two cannot differ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from masac.training.config import ExperimentConfig

ALGORITHMS = ("isac", "masac")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The recipe's settings for one task.

    Args:
        frames: frames of the run.
        gamma: discount per step.
    """

    frames: int
    gamma: float


RECIPES = {
    "navigation": Recipe(frames=120_064, gamma=0.95),
    "balance": Recipe(frames=192_000, gamma=0.99),
    "sampling": Recipe(frames=120_064, gamma=0.99),
}
"""The tasks, with the scenario keywords of masac's presets (sampling shares its reward; in BenchMARL's settings it does
not)."""

SAME_FOR_ALL = (
    "task.num_envs=64",
    "task.horizon=100",
    "algorithm.tau=0.005",
    "algorithm.alpha_init=0.05",
    "algorithm.num_qvalue_nets=2",
    "algorithm.share_actor=true",
    "algorithm.share_critic=true",
    "algorithm.loss_function=l2",  # BenchMARL's default
    "model.hidden=[128,128]",
    "model.activation=relu",
    "training.steps_per_iteration=4",
    "training.updates_per_frame=0.03125",
    "training.batch_size=256",
    "training.warmup_frames=2560",
    "training.buffer_size=200000",
    "training.actor_lr=0.001",
    "training.critic_lr=0.001",
    "training.alpha_lr=0.001",
    "training.final_lr_factor=1",  # BenchMARL's learning rates are constant
    "training.normalize_rewards=false",  # BenchMARL does not normalize them
    "training.max_grad_norm=5",  # BenchMARL's default; both clip actor and critics separately
    "training.device=cpu",
)
"""The rest of the recipe, the same for all tasks."""

ONE_VALUE = ("algorithm.critic=team", "algorithm.terminated_reduction=all", "algorithm.reward_reduction=mean")
"""One value for all agents, as the shared centralized critic of BenchMARL's masac has."""

UNWATCHED = (
    "evaluation.every_frames=0",
    "training.checkpoint_every=null",
    "logging.loggers=[]",
    "logging.progress=off",
)
"""For the comparison of wall times: no evaluation, checkpoints or logs, as BenchMARL runs."""

FINE_TUNED = {
    "num_envs": 60,
    "frames_per_batch": 6_000,
    "updates_per_batch": 1_000,
    "batch_size": 128,
    "warmup_frames": 0,
    "buffer_size": 1_000_000,
    "lr": 5e-5,
    "gamma": 0.9,
    "tau": 0.005,
    "alpha_init": 1.0,
    "hidden": [256, 256],
    "activation": "Tanh",
    "adam_eps": 1e-6,
    "max_grad_norm": 5,
}
"""BenchMARL's own settings for VMAS: fine_tuned/vmas/conf/config.yaml of facebookresearch/BenchMARL at commit 85de91b,
and for settings that are not in it the defaults of BenchMARL 1.5.2."""

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "elu": "ELU", "silu": "SiLU", "gelu": "GELU"}


def recipe_overrides(task: str, algorithm: str, *, scale: float = 1.0) -> list[str]:
    """Arguments of ``masac train`` for the recipe, with its frames times ``scale``."""
    recipe = RECIPES[task]
    return [
        f"task=vmas/{task}",
        f"algorithm={algorithm}",
        *SAME_FOR_ALL,
        f"algorithm.gamma={recipe.gamma}",
        f"training.total_frames={round(recipe.frames * scale)}",
    ]


def benchmarl_job(config: ExperimentConfig, *, fine_tuned: bool = False) -> dict[str, Any]:
    """The job for ``benchmarl/run.py`` that equals ``config``, or has BenchMARL's fine-tuned settings.

    Raises:
        ValueError: for a config that BenchMARL cannot follow.
    """
    task, algorithm, training = config.task, config.algorithm, config.training
    frames_per_batch = task.num_envs * training.steps_per_iteration
    updates = frames_per_batch * training.updates_per_frame
    rules = {
        "training.actor_lr, critic_lr and alpha_lr must be equal": (
            training.actor_lr == training.critic_lr == training.alpha_lr
        ),
        "training.final_lr_factor must be 1": training.final_lr_factor == 1,
        "the updates of an iteration must be a whole number": updates == int(updates) and updates >= 1,
        "training.warmup_frames must be a whole number of iterations": training.warmup_frames % frames_per_batch == 0,
        "training.reward_scale must be 1": training.reward_scale == 1,
        "training.normalize_rewards must be false": not training.normalize_rewards,
        "training.normalize_observations must be false": not training.normalize_observations,
        "model.layer_norm and model.agent_ids must be false": not (config.model.layer_norm or config.model.agent_ids),
        "algorithm.share_actor must be true": algorithm.share_actor,
        "algorithm.target_entropy must be null": algorithm.target_entropy is None,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise ValueError(f"BenchMARL must be able to follow the recipe: {'; '.join(broken)}. Change the overrides.")
    job = {
        "task": task.scenario,
        "algorithm": algorithm.name,
        "seed": config.seed,
        "task_kwargs": {"max_steps": task.horizon, **task.kwargs},
        "frames": training.total_frames,
        "num_envs": task.num_envs,
        "frames_per_batch": frames_per_batch,
        "updates_per_batch": int(updates),
        "batch_size": training.batch_size,
        "warmup_frames": training.warmup_frames,
        "buffer_size": training.buffer_size,
        "lr": training.actor_lr,
        "gamma": algorithm.gamma,
        "tau": algorithm.tau,
        "alpha_init": algorithm.alpha_init,
        "num_qvalue_nets": algorithm.num_qvalue_nets,
        "share_critic": algorithm.share_critic,
        "loss_function": algorithm.loss_function,
        "hidden": list(config.model.hidden),
        "activation": ACTIVATIONS[config.model.activation],
        "adam_eps": 1e-8,  # PyTorch's default, as in masac
        "max_grad_norm": training.max_grad_norm,
    }
    return {**job, **FINE_TUNED} if fine_tuned else job


def as_json(config: ExperimentConfig) -> dict[str, Any]:
    """The parts of a config that define what is trained."""
    whole = asdict(config)
    return {name: whole[name] for name in ("task", "algorithm", "model", "training", "evaluation")}
