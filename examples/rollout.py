"""Load a policy that masac trained, and roll it out.

Shows ``masac.load_policy``, which makes a TensorDictModule of a run's folder, and what a rollout holds: with TorchRL's
``env.rollout`` everything the agents saw, did and got is in one TensorDict.

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
from masac.envs.registry import make_env
from masac.training.checkpointing.resume import read_run_config


def main() -> None:
    """Step some environments, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="the folder of a run")
    parser.add_argument("--checkpoint", default="last", help="last, best, or the name of one of its checkpoints")
    parser.add_argument("--steps", type=int, default=100, help="of every environment")
    parser.add_argument("--envs", type=int, default=8, help="environments stepped at once")
    parser.add_argument("--seed", type=int, default=7, help="of the environments and of the noise")
    parser.add_argument("--stochastic", action="store_true", help="draw actions from the policy, as in training")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    policy = masac.load_policy(arguments.run_dir, checkpoint=arguments.checkpoint)
    task = read_run_config(arguments.run_dir).task  # the run knows its environment
    env = make_env(task, num_envs=arguments.envs, seed=arguments.seed)

    how = ExplorationType.RANDOM if arguments.stochastic else ExplorationType.DETERMINISTIC
    with torch.no_grad(), set_exploration_type(how):
        # Environments that end begin again; without break_when_any_done=False all would stop with the first.
        played = env.rollout(arguments.steps, policy, break_when_any_done=False)
    env.close()

    print(f"{task.suite}/{task.name}: {arguments.envs} environments, {arguments.steps} steps each; the entries:")
    for key in sorted(played.keys(include_nested=True, leaves_only=True), key=str):
        name = key if isinstance(key, str) else "/".join(key)
        print(f"  {name:32} {str(played[key].dtype).removeprefix('torch.'):8} {list(played[key].shape)}")
    for group in policy.groups:
        reward = played["next", group.name, "reward"].squeeze(-1)  # [environments, steps, agents]
        mask = played.get((group.name, "mask"), torch.ones_like(reward, dtype=torch.bool))  # who was alive
        lived, alive = reward[mask], mask.float().mean()
        print(
            f"{group.n_agents} {group.name}: reward {lived.mean():.3f} a step of their lives "
            f"(worst {lived.min():.3f}, best {lived.max():.3f}), alive {alive:.0%} of the time"
        )
    ended = played["next", "done"].sum().item()
    terminated = (played["next", "done"] & played["next", "terminated"]).sum().item()
    print(f"{ended} episodes ended, {terminated} of them terminated and {ended - terminated} cut short")


if __name__ == "__main__":
    main()
