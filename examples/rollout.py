"""Load a policy that masac trained, and roll it out.

Shows ``masac.load_policy``, which loads the policy of a run as a TensorDictModule, and the entries of a rollout:
TorchRL's ``env.rollout`` returns observations, actions, rewards and flags in one TensorDict.

Run it, after ``masac train run_dir=runs/mine`` or one of the other examples:

    python examples/rollout.py runs/mine
    python examples/rollout.py runs/mine --checkpoint best --stochastic --steps 20 --envs 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

import masac
from masac.training.checkpointing.resume import read_run_config


def main() -> None:
    """Roll the policy out and print the entries, rewards and ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="the folder of a run")
    parser.add_argument("--checkpoint", default="last", help="last, best, or the name of a checkpoint of the run")
    parser.add_argument("--steps", type=int, default=100, help="steps of every environment")
    parser.add_argument("--envs", type=int, default=8, help="number of environments")
    parser.add_argument("--seed", type=int, default=7, help="seed of environments and noise")
    parser.add_argument("--stochastic", action="store_true", help="sample actions, as in training")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    policy = masac.load_policy(arguments.run_dir, checkpoint=arguments.checkpoint)
    task = read_run_config(arguments.run_dir).task  # from the run's config
    env = masac.load_env(arguments.run_dir, num_envs=arguments.envs, seed=arguments.seed)

    how = ExplorationType.RANDOM if arguments.stochastic else ExplorationType.DETERMINISTIC
    with torch.no_grad(), set_exploration_type(how):
        # Environments reset when they end. Without break_when_any_done=False the rollout would stop at the first end.
        rollout = env.rollout(arguments.steps, policy, break_when_any_done=False)
    env.close()

    print(f"{task.suite}/{task.name}: {arguments.envs} environments, {arguments.steps} steps each. Entries:")
    for key in sorted(rollout.keys(include_nested=True, leaves_only=True), key=str):
        name = key if isinstance(key, str) else "/".join(key)
        print(f"  {name:32} {str(rollout[key].dtype).removeprefix('torch.'):8} {list(rollout[key].shape)}")
    for group in policy.groups:
        reward = rollout["next", group.name, "reward"].squeeze(-1)  # [environments, steps, agents]
        mask = rollout.get((group.name, "mask"), torch.ones_like(reward, dtype=torch.bool))  # who is alive
        while_alive, alive = reward[mask], mask.float().mean()
        print(
            f"{group.n_agents} {group.name}: mean reward per step and living agent {while_alive.mean():.3f} "
            f"({while_alive.min():.3f} to {while_alive.max():.3f}), alive in {alive:.0%} of the steps"
        )
    ended = rollout["next", "done"].sum().item()
    terminated = (rollout["next", "done"] & rollout["next", "terminated"]).sum().item()
    print(f"{ended} episodes ended, {terminated} of them terminated and {ended - terminated} truncated")


if __name__ == "__main__":
    main()
