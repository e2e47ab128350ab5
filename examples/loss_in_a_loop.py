"""``GroupSACLoss`` in your own loop: TorchRL's environment and replay buffer, PyTorch's optimizer, no trainer.

Shows which part writes which entry, what is stored, and the order of an update. The task is VMAS ``navigation``: three
agents drive to their goals, and an episode terminates when all have arrived.

Run it:

    python examples/loss_in_a_loop.py                               # about a minute on two CPU cores
    python examples/loss_in_a_loop.py --frames 1500                 # seconds; learns nothing yet
"""

from __future__ import annotations

import argparse

import torch
from tensordict import TensorDictBase
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import EnvBase, StepCounter, TransformedEnv
from torchrl.envs.libs.vmas import VmasEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import SoftUpdate

from masac import GroupSACLoss, ModelConfig, make_critic, make_tanh_normal_actor

HORIZON = 100
STORED = [
    ("agents", "observation"),
    ("agents", "action"),
    ("next", "agents", "observation"),
    ("next", "agents", "reward"),  # [rows, agents, 1]: one per agent
    ("next", "terminated"),  # [rows, 1]: VMAS has one flag for the team, which the loss accepts
]
"""What the loss reads. It needs no ``truncated``: every row that is not terminated bootstraps."""


def make_env(num_envs: int, *, seed: int) -> EnvBase:
    """Copies of navigation, whose episodes are truncated at the horizon.

    ``StepCounter`` reports the horizon as a truncation; ``VmasEnv(max_steps=...)`` would report it as a termination.
    """
    env = VmasEnv("navigation", num_envs=num_envs, continuous_actions=True, seed=seed, n_agents=3)
    return TransformedEnv(env, StepCounter(max_steps=HORIZON))


@torch.no_grad()
def evaluate(actor: ProbabilisticActor, env: EnvBase) -> float:
    """Mean return per agent over one episode of each environment, without noise."""
    env.set_seed(1_000_000)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = env.rollout(HORIZON, actor, break_when_any_done=False)
    done = rollout["next", "done"].squeeze(-1)  # [environments, steps]
    in_first_episode = done.long().cumsum(1) - done.long() == 0  # up to and including its last step
    return (rollout["next", "agents", "reward"].squeeze(-1).mean(-1) * in_first_episode).sum(1).mean().item()


def main() -> None:
    """Collect, store, update; print the evaluations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=80_000, help="frames: steps, summed over the environments")
    parser.add_argument("--envs", type=int, default=64, help="number of environments")
    parser.add_argument("--batch", type=int, default=256, help="rows (frames of all agents) per update")
    arguments = parser.parse_args()
    torch.manual_seed(0)

    env, test_env = make_env(arguments.envs, seed=0), make_env(64, seed=1)
    action_spec = env.full_action_spec_unbatched["agents", "action"]  # [agents, dimensions]
    observation_spec = env.full_observation_spec_unbatched["agents", "observation"]
    n_agents, observation_dim = observation_spec.shape
    sizes = {"group": "agents", "n_agents": n_agents, "observation_dim": observation_dim}
    common = {"share_params": True, "model": ModelConfig(hidden=(128, 128))}
    actor = make_tanh_normal_actor(action_spec=action_spec, **sizes, **common)  # or your own ProbabilisticActor
    critic = make_critic("independent", action_dim=action_spec.shape[-1], **sizes, **common)  # or your own

    loss = GroupSACLoss(actor, critic, gamma=0.95, alpha_init=0.05, skip_done_states="fill")
    targets = SoftUpdate(loss, tau=0.005)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    replay = ReplayBuffer(storage=LazyTensorStorage(100_000), batch_size=arguments.batch)

    def update(batch: TensorDictBase) -> TensorDictBase:
        losses = loss(batch)
        optimizer.zero_grad()
        # One backward pass suffices: each term trains only its own networks.
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
        optimizer.step()
        targets.step()
        return losses

    print(f"untrained: mean return per agent {evaluate(actor, test_env):6.3f}")
    data, steps, losses = env.reset(), max(arguments.frames // arguments.envs, 1), None
    for step in range(1, steps + 1):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            stepped, data = env.step_and_maybe_reset(actor(data))  # data: the state of the next step
        replay.extend(stepped.select(*STORED))
        if step * arguments.envs >= 2 * arguments.batch:
            for _ in range(arguments.envs // 32):
                losses = update(replay.sample())
        if losses is not None and (step % -(-steps // 8) == 0 or step == steps):
            print(
                f"{step * arguments.envs:7,} frames: mean return per agent {evaluate(actor, test_env):6.3f}, "
                f"critic loss {losses['loss_qvalue'].item():.4f}, entropy {losses['entropy'].item():5.2f}, "
                f"alpha {losses['alpha'].item():.4f}"
            )


if __name__ == "__main__":
    main()
