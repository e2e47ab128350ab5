"""Images in observations are entries of their own, in the environment's dtype and order of dimensions."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import check_env_specs

from masac.envs.pettingzoo.encoding import ObservationWriter
from masac.envs.torchrl_observations import with_vectors
from masac.groups import read_groups
from masac.images import ImageSpec, is_image
from tests.envs.common import wrap
from tests.envs.factories import OneTorch
from tests.envs.images import Lights


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((84, 84, 3), "uint8", True),
        ((4, 84, 84), "uint8", True),
        ((84, 84), "uint8", True),
        ((8, 9, 1), "float32", True),
        ((2, 8, 8), "float64", True),
        ((7, 7, 3), "float32", False),  # pursuit's
        ((7, 84, 3), "uint8", False),
        ((84, 84), "float32", False),  # a table of numbers
        ((84, 84, 3), "int64", False),
        ((84,), "uint8", False),
    ],
)
def test_bytes_and_floats_of_eight_or_more_on_a_side_are_images(shape, dtype, image):
    assert is_image(shape, dtype) == image


def test_the_smaller_of_first_and_last_dimension_has_the_channels():
    sizes = {shape: ImageSpec(name="image", shape=shape).size for shape in [(9, 8, 3), (3, 9, 8), (8, 9, 8), (9, 8)]}
    assert sizes == {(9, 8, 3): (3, 9, 8), (3, 9, 8): (3, 9, 8), (8, 9, 8): (8, 8, 9), (9, 8): (1, 9, 8)}


@pytest.mark.parametrize(
    ("seen", "features", "images"),
    [
        ("image", 0, [("image", (8, 8, 1), "uint8", 255)]),
        ("tuple", 2, [("image_0", (8, 8, 1), "uint8", 255)]),
        ("dict", 3, [("image_eye_depth", (2, 9, 10), "float32", 1), ("image_eye_left", (8, 8, 1), "uint8", 255)]),
    ],
)
def test_images_are_entries_beside_the_vector(seen, features, images):
    env = wrap(Lights(seen))
    check_env_specs(env)
    (group,) = read_groups(env)
    assert group.observation_dim == features
    assert [(one.name, one.shape, one.dtype, one.divide_by) for one in group.images] == images
    data = env.reset()["lamp"]
    assert data["observation"].shape == (1, 2, features)
    for name, shape, dtype, _ in images:
        assert (data[name].shape, data[name].dtype) == ((1, 2, *shape), getattr(torch, dtype))
    bright = data[images[-1][0]] if seen != "dict" else data["image_eye_left"]
    assert bright.float().mean((-3, -2, -1)).min() > 50  # written, not left at zero


def test_the_images_of_an_agent_that_is_gone_are_zeros():
    env = wrap(Lights("dict", dies=True))
    data = env.rollout(4)[0]
    assert data["lamp", "mask"][:, 0].tolist() == [True, True, False, False]
    for name in ("image_eye_left", "image_eye_depth"):
        assert data["lamp", name][1, 0].float().abs().sum() > 0
        assert data["lamp", name][3:, 0].float().abs().sum() == 0  # after its last one


def test_float_images_up_to_255_are_divided_too():
    (leaf,) = ObservationWriter(Box(0, 255, (8, 8, 3), np.float32), "a").images
    assert leaf.image.divide_by == 255
    (leaf,) = ObservationWriter(Box(-np.inf, np.inf, (8, 8, 3), np.float64), "a").images
    assert (leaf.image.divide_by, leaf.image.dtype, leaf.spec(2).dtype) == (1, "float32", torch.float32)


def test_torchrl_environments_keep_their_images():
    env = OneTorch()
    inner = Composite(
        camera=Bounded(0, 255, (2, 8, 9, 3), dtype=torch.uint8), place=Unbounded((2, 2)), shape=(2,), device=env.device
    )
    env.observation_spec = Composite(agents=Composite(observation=inner, shape=(2,)))
    seen = with_vectors(env, "task.factory=x")
    (group,) = read_groups(seen)
    assert (group.observation_dim, group.images) == (
        2,
        (ImageSpec(name="image_camera", shape=(8, 9, 3), dtype="uint8", divide_by=255.0),),
    )
    camera = torch.randint(256, (2, 8, 9, 3), dtype=torch.uint8)
    data = TensorDict({"agents": TensorDict({"observation": {"camera": camera, "place": torch.ones(2, 2)}}, [2])}, [])
    out = seen.transform._call(data)
    assert out["agents", "observation"].tolist() == [[1, 1], [1, 1]]
    assert torch.equal(out["agents", "image_camera"], camera)
