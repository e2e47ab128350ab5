"""Collecting transitions with TorchRL's collector."""

from __future__ import annotations

import warnings

from torchrl.collectors import Collector
from torchrl.envs import EnvBase

from masac.training.policy import Policy


def make_collector(
    env: EnvBase, policy: Policy, *, frames_per_iteration: int, total_frames: int, random_frames: int
) -> Collector:
    """A collector that steps ``env`` in this process and yields batches ``[environments, steps]``.

    Args:
        env: vectorised environments.
        policy: acts, with noise.
        frames_per_iteration: environments times steps of a batch.
        total_frames: after which it ends.
        random_frames: at the start, with random actions instead of the policy's.
    """
    with warnings.catch_warnings():
        # TorchRL 0.14 announces a default of 0.15 for recurrent policies; ours keeps no state between steps.
        warnings.filterwarnings("ignore", message=".*auto_register_policy_transforms.*", category=FutureWarning)
        return Collector(
            env,
            policy,
            frames_per_batch=frames_per_iteration,
            total_frames=total_frames,
            init_random_frames=random_frames,
        )
