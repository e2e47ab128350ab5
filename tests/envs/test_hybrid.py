"""Actions with parts: what the environment gets, specs, masks, and how groups are read and shown."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical
from torchrl.envs.utils import check_env_specs

from masac.cli.tasks import _action
from masac.envs.pettingzoo.actions import ActionReader, read_action_mask
from masac.errors import ConfigError
from masac.groups import read_groups
from masac.training.policies.policy import Policy
from tests.envs.common import wrap
from tests.envs.factories import OneTorch
from tests.envs.hybrid import Tuner

NESTED = Dict(
    turn=Box(np.float64([[-1, 0]]), np.float64([[1, 2]]), dtype=np.float64),
    arm=Tuple([Discrete(3, start=4), Box(0, 1, (1,))]),
    lamps=MultiBinary(2),
    gear=MultiDiscrete([2, 5], start=[0, 1]),
)


def test_parts_are_read_in_the_order_of_their_keys():
    reader = ActionReader(NESTED, "a")
    specs = reader.specs(2)
    assert {name: tuple(spec.shape) for name, spec in specs.items()} == {"action": (2, 3), "discrete_action": (2, 5)}
    assert (reader.sizes, reader.starts(), reader.is_hybrid) == ([3, 2, 5, 2, 2], [4, 0, 1, 0, 0], True)
    assert specs["action"].space.low[0].tolist() == [0, -1, 0]
    # arm: a choice, a number; gear: two choices; lamps: two; turn: two numbers
    action = reader([np.float32([0.5, -3.0, 2.0]), np.array([2, 1, 4, 0, 1])])
    assert NESTED.contains(action)
    assert (action["arm"][0], action["arm"][1].tolist()) == (6, [0.5])
    assert (action["gear"].tolist(), action["lamps"].tolist()) == ([1, 5], [0, 1])
    assert action["turn"].tolist() == [[-1, 2]]  # clipped to its bounds


@pytest.mark.parametrize(
    ("space", "kind", "shape"),
    [
        (Dict(a=Discrete(2), b=MultiDiscrete([3, 4])), MultiCategorical, (1, 3)),
        (Tuple([Box(-1, 1, (2,)), Box(0, 1, (1,))]), Bounded, (1, 3)),
    ],
)
def test_parts_of_one_kind_are_one_action(space, kind, shape):
    (spec,) = ActionReader(space, "a").specs(1).values()
    assert isinstance(spec, kind)
    assert spec.shape == shape
    row = spec.rand()[0].numpy()
    assert space.contains(ActionReader(space, "a")([row]))


def test_masks_of_parts_are_side_by_side():
    sizes = [3, 2]
    for mask in ([1, 0, 1, 1, 0], {"b": [1, 0], "a": np.array([1, 0, 1])}, (np.array([1, 0, 1]), [1, 0])):
        assert read_action_mask(mask, sizes, "a").tolist() == [True, False, True, True, False]
    with pytest.raises(ConfigError, match="must have 5 entries, one per choice; got 4"):
        read_action_mask({"a": [1, 1], "b": [1, 1]}, sizes, "a")


def test_a_hybrid_group_collects_legal_actions_of_living_agents():
    raw = Tuner(masks=True, dies=True, switches=1)
    env = wrap(raw)
    check_env_specs(env)
    (group,) = read_groups(env)
    assert (group.discrete, group.discrete_part.sizes) == (None, (3, 2))
    assert (group.continuous_dim, group.action_features, group.has_action_mask) == (1, 6, True)
    assert _action(group) == "continuous, 1 dimension, and discrete, 2 factors of 3 x 2 choices, masked"
    for policy in (None, Policy([group], {}, {})):  # random actions of the environment, and ours
        raw.got.clear()
        data = env.rollout(4, policy, break_when_any_done=False)[0]
        assert data["radio", "discrete_action"].dtype == torch.int64
        assert [sorted(got) for got in raw.got] == [["radio_0", "radio_1"]] * 2 + [["radio_1"]] * 2
        space = raw.action_space("radio_0")
        assert all(space.contains(action) for got in raw.got for action in got.values())
        assert {action["button"] for got in raw.got for action in got.values()} <= {1, 2}


def test_torchrl_environments_may_have_both_parts():
    env = OneTorch()
    parts = {"action": Bounded(-1.0, 1.0, (2, 1)), "discrete_action": MultiCategorical([3, 2], (2, 2))}
    env.action_spec = Composite(agents=Composite(parts, shape=(2,)))
    groups = [env, OneTorch()]
    groups[1].action_spec = Composite(
        agents=Composite(action=Categorical(3, (2,)), discrete_action=parts["discrete_action"], shape=(2,))
    )
    from masac.envs.torchrl_observations import with_vectors

    (group,) = read_groups(with_vectors(groups[0], "x"))
    assert group.discrete_part.sizes == (3, 2)
    with pytest.raises(ConfigError, match=r"must have its continuous part at 'action' .* beside a discrete action"):
        read_groups(with_vectors(groups[1], "x"))
