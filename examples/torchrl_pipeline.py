"""TorchRL's multi-agent SAC pipeline with masac's loss: python examples/torchrl_pipeline.py [--frames 60000].

VmasEnv, MultiAgentMLP, ProbabilisticActor, Collector, ReplayBuffer and SoftUpdate are TorchRL's; only the loss is
masac's. In TorchRL's recipe the loss is

    loss = SACLoss(actor_network=actor, qvalue_network=critic, delay_qvalue=True, action_spec=env.full_action_spec)
    loss.set_keys(state_action_value=..., action=..., reward=..., done=..., terminated=..., priority=...)

and done and terminated are expanded to the agents first. docs/moving_from_sacloss.md compares the two line by line.

    --n-steps 3      n-step targets with TorchRL's MultiStep
    --prioritized    prioritized replay with TorchRL's PrioritizedSampler (needs its C++ extension)
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torchrl
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, PrioritizedSampler, RandomSampler, TensorDictReplayBuffer
from torchrl.data.postprocs import MultiStep
from torchrl.envs import EnvBase, InitTracker, RewardSum, StepCounter, TransformedEnv, VmasEnv, set_exploration_type
from torchrl.envs.utils import ExplorationType
from torchrl.modules import MultiAgentMLP, NormalParamExtractor, ProbabilisticActor, TanhNormal
from torchrl.objectives import SoftUpdate

from masac import GroupSACLoss

ENVS, HORIZON, GAMMA, REWARD = 64, 100, 0.95, ("agents", "reward")


class StateAction(nn.Module):
    """A network on the concatenation of observation and action."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the values, ``[*B, N, 1]``."""
        return self.network(torch.cat([observation, action], -1))


def make_env(seed: int) -> EnvBase:
    """Navigation with StepCounter's horizon, a truncation; VmasEnv's max_steps would be a termination."""
    env = VmasEnv("navigation", num_envs=ENVS, continuous_actions=True, seed=seed)
    env = TransformedEnv(env, StepCounter(HORIZON))
    env.append_transform(RewardSum([REWARD], [("agents", "episode_reward")]))
    return env.append_transform(InitTracker())  # which TorchRL's collector needs


def make_networks(env: EnvBase) -> tuple[ProbabilisticActor, TensorDictModule]:
    """The networks of TorchRL's recipe: shared weights and an independent critic."""
    spec = env.full_action_spec_unbatched["agents", "action"]
    n_agents, action_dim = spec.shape
    observation_dim = env.observation_spec["agents", "observation"].shape[-1]
    sizes: dict[str, Any] = {
        "n_agents": n_agents,
        "centralized": False,
        "share_params": True,
        "depth": 2,
        "num_cells": 128,
        "activation_class": nn.ReLU,
    }
    actor = ProbabilisticActor(
        TensorDictModule(
            nn.Sequential(MultiAgentMLP(observation_dim, 2 * action_dim, **sizes), NormalParamExtractor()),
            in_keys=[("agents", "observation")],
            out_keys=[("agents", "loc"), ("agents", "scale")],
        ),
        spec=env.full_action_spec_unbatched,
        in_keys=[("agents", "loc"), ("agents", "scale")],
        out_keys=[("agents", "action")],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high},
        return_log_prob=True,
        log_prob_key=("agents", "action_log_prob"),
    )
    critic = TensorDictModule(
        StateAction(MultiAgentMLP(observation_dim + action_dim, 1, **sizes)),
        in_keys=[("agents", "observation"), ("agents", "action")],
        out_keys=[("agents", "state_action_value")],
    )
    return actor, critic


def make_sampler(size: int, *, prioritized: bool) -> RandomSampler | PrioritizedSampler:
    """A sampler that draws uniformly, or by the priorities that the loss writes."""
    if not prioritized:
        return RandomSampler()
    try:
        return PrioritizedSampler(max_capacity=size, alpha=0.6, beta=0.4)
    except RuntimeError as error:
        raise SystemExit(
            f"prioritized replay needs TorchRL's C++ extension; that of torchrl {torchrl.__version__} does not "
            f"load with torch {torch.__version__}: {error} Install the torch that this torchrl was built for "
            "(pip install --upgrade torch torchrl), or leave out --prioritized."
        ) from error


def make_multi_step(n_steps: int) -> MultiStep | None:
    """TorchRL's n-step transform with the keys of the group."""
    if n_steps == 1:
        return None
    multi_step = MultiStep(gamma=GAMMA, n_steps=n_steps)
    multi_step.reward_keys = (REWARD,)
    multi_step.done_keys = ()  # so that flags at the root move to the n-th step with the observation
    return multi_step


def main() -> None:
    """Train, print returns, and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60_000)
    parser.add_argument("--n-steps", type=int, default=1)
    parser.add_argument("--prioritized", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    sampler = make_sampler(100_000, prioritized=arguments.prioritized)
    env = make_env(arguments.seed)
    actor, critic = make_networks(env)

    loss = GroupSACLoss(actor, critic, gamma=GAMMA, alpha_init=0.05, skip_done_states="fill")  # instead of SACLoss(...)
    target = SoftUpdate(loss, tau=0.005)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)

    frames_per_batch = ENVS * 20
    collector = Collector(
        env,
        actor,
        frames_per_batch=frames_per_batch,
        total_frames=-(-arguments.frames // frames_per_batch) * frames_per_batch,
        postproc=make_multi_step(arguments.n_steps),
    )
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100_000), sampler=sampler, batch_size=256, priority_key="td_error"
    )
    frames = 0
    for collected in collector:
        frames += collected.numel()
        buffer.extend(collected.reshape(-1))
        for _ in range(frames_per_batch // 32):
            batch = buffer.sample()
            losses = loss(batch)
            optimizer.zero_grad()
            (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).backward()
            optimizer.step()
            target.step()
            if arguments.prioritized:
                buffer.update_tensordict_priority(batch)  # the loss wrote "td_error" into it, one per row
        collector.update_policy_weights_()
        done = collected["next", "done"].squeeze(-1)
        if bool(done.any()):
            returns = collected["next", "agents", "episode_reward"][done].mean().item()
            entropy = losses["entropy"].item()
            print(f"{frames:7,} frames: mean return per agent {returns:6.3f}, entropy {entropy:6.3f}", flush=True)
    collector.shutdown()

    env = make_env(arguments.seed + 1)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = env.rollout(HORIZON, actor, break_when_any_done=False)
    returns = rollout["next", "agents", "reward"].sum(1).mean().item()
    print(f"without noise: mean return per agent {returns:.3f} in {HORIZON} steps")


if __name__ == "__main__":
    main()
