"""Makes the environments of a task."""

from __future__ import annotations

from torchrl.envs import EnvBase

from masac.envs.config import TaskConfig
from masac.envs.slow_start_warning import warn_if_slow
from masac.envs.suites import suite_named


def make_env(
    task: TaskConfig,
    *,
    num_envs: int,
    seed: int,
    device: str = "cpu",
    one_episode: bool = False,
    warns: bool = False,
) -> EnvBase:
    """Make the environments of a task, as one vectorised environment.

    Args:
        task: the config of the task.
        num_envs: environments stepped at once.
        seed: of everything random in them.
        device: where its data is; where VMAS computes.
        one_episode: whether environments may stop after one episode until they are seeded again, to save time. VMAS
            environments, which step as one batch, never do.
        warns: whether to warn of likely mistakes in the environment, such as an ignored seed. This takes two resets.

    Returns:
        An environment with batch size ``[num_envs]``.

    Raises:
        ConfigError: for a task that cannot be made. The message says what to change.
    """
    suite = suite_named(task.suite)
    with warn_if_slow(f"{task.suite}/{task.name}", suite.slow_hint):
        return suite.make(task, num_envs=num_envs, seed=seed, device=device, one_episode=one_episode, warns=warns)
