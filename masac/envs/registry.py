"""From a task to its environments."""

from __future__ import annotations

from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.slow_start_warning import warn_if_slow

SLOW = {
    "vmas": "VMAS tries places at random until all agents fit: fewer of them (task.kwargs.n_agents=...) or a larger "
    "world (task.kwargs.world_spawning_x=... and _y, where the scenario has them) would. Ctrl-C ends it.",
    "pettingzoo": "Fewer environments (task.num_envs=...) or keywords for a smaller one (task.kwargs) take less. "
    "Ctrl-C ends it.",
}
"""What to change where an environment does not begin, by suite."""


def make_env(
    task: TaskConfig,
    *,
    num_envs: int,
    seed: int,
    device: str = "cpu",
    one_episode: bool = False,
    warns: bool = False,
) -> EnvBase:
    """The environments of a task, as one.

    Args:
        task: which environment, and how long an episode is at most.
        num_envs: environments stepped at once.
        seed: of everything random in them.
        device: where its data is; where VMAS computes.
        one_episode: whether environments may rest once their episode is over, until they are seeded again. Those that
            step as one batch (VMAS) never do.
        warns: whether to look for what trains, but hardly as meant (an ignored seed, say), and warn of it. That takes
            two more resets.

    Returns:
        An environment with batch size ``[num_envs]``, or ``[W, num_envs // W]`` where ``W = task.num_workers``
        processes share the environments.

    Raises:
        ConfigError: for a task that cannot be built. The message says what to change.
    """
    with warn_if_slow(f"{task.suite}/{task.name}", SLOW[task.suite]):
        if task.suite == "vmas":
            from masac.envs.vmas import make_vmas_env  # imported where it is used: either suite may be missing

            return make_vmas_env(task, num_envs=num_envs, seed=seed, device=device, warns=warns)
        from masac.envs.pettingzoo import make_pettingzoo_env

        return make_pettingzoo_env(
            task, num_envs=num_envs, seed=seed, device=device, one_episode=one_episode, warns=warns
        )
