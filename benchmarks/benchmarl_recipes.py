"""What masac and BenchMARL are both told to do: recipes as masac's overrides, and the same for BenchMARL.

BenchMARL's settings are read from masac's composed config, so that the two cannot drift apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hydra import compose, initialize_config_module

from masac.cli.arguments import hydra_arguments
from masac.cli.presets import register_presets
from masac.training.config import ExperimentConfig, read_config

ALGORITHMS = ("isac", "masac")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One task's part of the recipe.

    Args:
        frames: steps of one environment, in all.
        gamma: discount a step.
        solved: evaluation from which the task counts as solved.
        solved_by: what of it: "success", the success rate, where the task says what success is; or "return", per agent.
    """

    frames: int
    gamma: float
    solved: float
    solved_by: str = "return"


RECIPES = {
    "navigation": Recipe(frames=120_064, gamma=0.95, solved=0.97, solved_by="success"),
    "balance": Recipe(frames=192_000, gamma=0.99, solved=32.0),
    "sampling": Recipe(frames=120_064, gamma=0.99, solved=75.0),
}
"""The tasks; scenario keywords are those of masac's presets (sampling shares its reward, which BenchMARL's own setting
does not). Navigation is solved when all agents reach their goals in 97% of episodes. Balance and sampling do not say
what success is; their thresholds are about 0.9 of where one run of masac's isac preset ended, so they are levels that
masac is known to reach, and BenchMARL is not."""

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
    "training.normalize_rewards=false",  # BenchMARL takes them as they are
    "training.max_grad_norm=5",  # BenchMARL's default; both clip actor and critics apart
    "training.device=cpu",
)
"""The rest of the recipe, the same for all tasks."""

UNWATCHED = (
    "evaluation.every_frames=0",
    "training.checkpoint_every=null",
    "logging.loggers=[]",
    "logging.progress=off",
)
"""For the comparison of wall times: nothing in the loop but learning, as BenchMARL is run."""

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
and for what is not in it the defaults of BenchMARL 1.5.2."""

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "elu": "ELU", "silu": "SiLU", "gelu": "GELU"}


def preset_overrides(task: str, algorithm: str, *, scale: float = 1.0) -> list[str]:
    """Arguments of ``masac train`` for its own preset; its frames times ``scale``."""
    words = [f"task=vmas/{task}", f"algorithm={algorithm}"]
    if scale != 1.0:
        frames = compose_config(words).training.total_frames
        words.append(f"training.total_frames={round(frames * scale)}")
    return words


def recipe_overrides(task: str, algorithm: str, *, scale: float = 1.0) -> list[str]:
    """Arguments of ``masac train`` for the recipe; its frames times ``scale``."""
    recipe = RECIPES[task]
    return [
        *preset_overrides(task, algorithm),
        *SAME_FOR_ALL,
        f"algorithm.gamma={recipe.gamma}",
        f"training.total_frames={round(recipe.frames * scale)}",
    ]


def compose_config(overrides: list[str]) -> ExperimentConfig:
    """The experiment that ``masac train`` would run with these arguments."""
    register_presets()
    with initialize_config_module("masac.conf", version_base="1.3"):
        return read_config(compose("config", overrides=hydra_arguments(overrides)))


def benchmarl_job(config: ExperimentConfig, *, fine_tuned: bool = False) -> dict[str, Any]:
    """What ``benchmarl_run.py`` is told, for the same as ``config`` or with BenchMARL's fine-tuned settings.

    Raises:
        ValueError: for a config that BenchMARL cannot do.
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
        "training.warmup_frames must be a number of iterations": training.warmup_frames % frames_per_batch == 0,
        "training.reward_scale must be 1": training.reward_scale == 1,
        "training.normalize_rewards must be false": not training.normalize_rewards,
        "training.normalize_observations must be false": not training.normalize_observations,
        "model.layer_norm and model.agent_ids must be false": not (config.model.layer_norm or config.model.agent_ids),
        "algorithm.share_actor must be true": algorithm.share_actor,
        "algorithm.target_entropy must be null": algorithm.target_entropy is None,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise ValueError(f"a recipe for BenchMARL is told all it knows: {'; '.join(broken)}. Change the overrides.")
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
        "adam_eps": 1e-8,  # PyTorch's default, which masac has
        "max_grad_norm": training.max_grad_norm,
    }
    return {**job, **FINE_TUNED} if fine_tuned else job


def as_json(config: ExperimentConfig) -> dict[str, Any]:
    """What of a config decides what is learned."""
    whole = asdict(config)
    return {name: whole[name] for name in ("task", "algorithm", "model", "training", "evaluation")}
