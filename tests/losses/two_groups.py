"""A group that moves continuously beside one that chooses, for tests of several groups."""

import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical

from masac import (
    GroupDiscreteSACLoss,
    GroupSACLoss,
    ModelConfig,
    MultiGroupLoss,
    OtherGroup,
    make_categorical_actor,
    make_critic,
    make_tanh_normal_actor,
)

B = 6


MODEL = ModelConfig(hidden=(16,), activation="tanh")


WOLVES = {"group": "wolves", "n_agents": 3, "observation_dim": 4}


SHEEP = {"group": "sheep", "n_agents": 2, "observation_dim": 5}


SEEN_WOLVES, SEEN_SHEEP = OtherGroup(**WOLVES, action_dim=2), OtherGroup(**SHEEP, action_dim=3)


def wolves_loss(kind="centralized", *, sees_sheep=False, **kwargs):
    """Three wolves move continuously."""
    shared = {"share_params": True, "model": MODEL}
    spec = Bounded(-1, 1, (3, 2), dtype=torch.get_default_dtype())
    actor = make_tanh_normal_actor(**WOLVES, **shared, action_spec=spec)
    critic = make_critic(kind, **WOLVES, **shared, action_dim=2, others=[SEEN_SHEEP] if sees_sheep else [])
    return GroupSACLoss(actor, critic, group="wolves", **kwargs)


def sheep_loss(kind="centralized", *, sees_wolves=False, **kwargs):
    """Two sheep choose among three moves."""
    shared = {"share_params": False, "model": MODEL}
    spec = Categorical(3, shape=(2,))
    actor = make_categorical_actor(**SHEEP, **shared, action_spec=spec)
    others = [SEEN_WOLVES] if sees_wolves else []
    critic = make_critic(kind, **SHEEP, **shared, action_dim=3, n_actions=3, others=others)
    return GroupDiscreteSACLoss(actor, critic, group="sheep", action_space=spec, **kwargs)


def both(critic_sees="group", kind="centralized", **kwargs):
    sees = critic_sees == "all_groups"
    wolves, sheep = wolves_loss(kind, sees_sheep=sees, **kwargs), sheep_loss(kind, sees_wolves=sees, **kwargs)
    return MultiGroupLoss([wolves, sheep], critic_sees=critic_sees)


def make_batch(*, seed=0, masks=None, terminated=None):
    generator = torch.Generator().manual_seed(seed)
    batch = TensorDict({"next": TensorDict({}, [B])}, [B])
    for sizes, discrete in ((WOLVES, False), (SHEEP, True)):
        group, shape = sizes["group"], (B, sizes["n_agents"])

        def normal(size, shape=shape):
            return torch.randn(*shape, size, generator=generator, dtype=torch.get_default_dtype())

        action = torch.randint(3, shape, generator=generator) if discrete else normal(2).tanh()
        batch[group] = TensorDict({"observation": normal(sizes["observation_dim"]), "action": action}, shape)
        ended = torch.zeros(*shape, 1, dtype=torch.bool)
        if terminated is not None:
            ended = terminated[group]
        following = {"observation": normal(sizes["observation_dim"]), "reward": normal(1), "terminated": ended}
        batch["next", group] = TensorDict(following, shape)
        if masks is not None:
            batch[group, "mask"] = masks[group]
    return batch
