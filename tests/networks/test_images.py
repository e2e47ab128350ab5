"""Convolutions over images: sizes, one convolution for agents and critics, and images in all networks."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from masac import GroupSACLoss, ModelConfig, OtherGroup, make_critic, make_tanh_normal_actor
from masac.compat import parameters_in
from masac.errors import ConfigError
from masac.images import ImageSpec
from masac.networks.images import CNN, ImageEncoder
from masac.training.traced_function import TracedFunction

N, F, A, B = 3, 2, 2, 4
MODEL = ModelConfig(hidden=(8,), cnn=(4, 6), activation="tanh")
IMAGES = (
    ImageSpec(name="image_eye", shape=(10, 9, 3), divide_by=255.0),
    ImageSpec(name="image_depth", shape=(2, 8, 12), dtype="float32"),
)
SIZES = {"group": "agents", "n_agents": N, "observation_dim": F, "model": MODEL, "images": IMAGES}


def pictures(*lead):
    return torch.randint(256, (*lead, 10, 9, 3), dtype=torch.uint8), torch.rand(*lead, 2, 8, 12)


@pytest.mark.parametrize(
    ("shape", "channels", "features", "layers"),
    [
        ((84, 84, 4), (16, 32, 32), 6 * 6 * 32, 4),  # 42, 21, 11, and once more: 6
        ((64, 64, 3), (16, 32, 32), 8 * 8 * 32, 3),  # 32, 16, 8
        ((8, 8, 1), (16, 32, 32), 4 * 4 * 32, 3),  # 4, then kept
        ((120, 457, 3), (8,), 2 * 8 * 8, 6),  # 60 x 229, 30 x 115, 15 x 58, 8 x 29, 4 x 15, 2 x 8
        ((9, 20), (5,), 3 * 5 * 5, 2),  # 5 x 10, 3 x 5
    ],
)
def test_sizes_are_those_counted_by_hand(shape, channels, features, layers):
    cnn = CNN(ImageSpec(name="image", shape=shape), ModelConfig(cnn=channels), ())
    assert (cnn.features, len(cnn.layers)) == (features, layers)
    assert cnn(torch.zeros(2, *shape, dtype=torch.uint8), per_agent=False).shape == (2, features)


@pytest.mark.usefixtures("float64")
def test_a_convolution_is_torchs_of_the_image_with_channels_first():
    cnn = CNN(IMAGES[0], ModelConfig(cnn=(4, 4), activation="relu"), ())
    image = pictures(5)[0]
    reference = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2, 1), torch.nn.ReLU()
    )
    assert len(cnn.layers) == 2  # 5 x 5, 3 x 3
    for ours, layer in zip(cnn.layers, reference[::2], strict=True):
        layer.load_state_dict(ours.state_dict())
    expected = reference(image.permute(0, 3, 1, 2) / 255).flatten(1)
    torch.testing.assert_close(cnn(image, per_agent=False), expected)


@pytest.mark.usefixtures("float64")
def test_shared_weights_equal_tied_weights_per_agent():
    shared = ImageEncoder(IMAGES, n_agents=N, share_params=True, model=MODEL)
    tied = ImageEncoder(IMAGES, n_agents=N, share_params=False, model=MODEL)
    tied.load_state_dict({name: value.expand(N, *value.shape) for name, value in shared.state_dict().items()})
    images = pictures(B, N)
    torch.testing.assert_close(tied(images), shared(images))
    with torch.no_grad():  # and another agent's weights matter for that agent alone
        next(tied.parameters())[1] += 1
    changed = (tied(images) - shared(images)).abs().amax((0, 2)) > 1e-3
    assert changed.tolist() == [False, True, False]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["independent", "centralized", "pooled", "team"])
@pytest.mark.parametrize("share", [True, False])
def test_k_critics_of_images_in_one_pass_equal_one_by_one(kind, share):
    others = (
        []
        if kind == "independent"
        else [OtherGroup(group="others", n_agents=2, observation_dim=1, action_dim=1, images=IMAGES[:1])]
    )
    critic = make_critic(kind, action_dim=A, share_params=share, others=others, **SIZES)
    actor = make_tanh_normal_actor(action_spec=Bounded(-1, 1, (N, A)), share_params=share, **SIZES)
    loss = GroupSACLoss(actor, critic, num_qvalue_nets=2)
    own, theirs = pictures(B, N), pictures(B, 2)
    alive = torch.rand(B, N, 1) < 0.7
    agents = {"observation": torch.randn(B, N, F), "action": torch.randn(B, N, A), "alive": alive}
    agents |= {image.name: entry for image, entry in zip(IMAGES, own, strict=True)}
    seen = {"observation": torch.randn(B, 2, 1), "action": torch.randn(B, 2, 1), "alive": torch.rand(B, 2, 1) < 0.5}
    data = TensorDict({"agents": TensorDict(agents, [B, N])}, [B])
    data["others"] = TensorDict({**seen, "image_eye": theirs[0]}, [B, 2])
    inputs = data.select(*critic.in_keys)
    stacked = critic.stacked_values(inputs, loss.qvalue_network_params)
    for params, values in zip(loss.qvalue_network_params.unbind(0), stacked, strict=True):
        with parameters_in(critic, params):
            torch.testing.assert_close(critic(inputs.clone())[critic.out_keys[0]], values)


@pytest.mark.usefixtures("float64")
def test_a_centralized_critic_sees_the_images_of_teammates():
    values = {}
    for kind in ("independent", "centralized"):
        critic = make_critic(kind, action_dim=A, share_params=True, **SIZES)
        eye, depth = pictures(1, N)
        agents = {"observation": torch.zeros(1, N, F), "action": torch.zeros(1, N, A)}
        agents |= {"alive": torch.ones(1, N, 1, dtype=torch.bool), "image_eye": eye, "image_depth": depth}
        before = critic(TensorDict({"agents": TensorDict(agents, [1, N])}, [1]))["agents", "state_action_value"]
        agents["image_eye"] = torch.cat([255 - eye[:, :1], eye[:, 1:]], 1)
        after = critic(TensorDict({"agents": TensorDict(agents, [1, N])}, [1]))["agents", "state_action_value"]
        values[kind] = ((after - before).abs() > 1e-9).flatten().tolist()
    assert values == {"independent": [True, False, False], "centralized": [True, True, True]}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("share", [True, False])
def test_the_actor_of_one_agent_sees_its_images(share):
    actor = make_tanh_normal_actor(action_spec=Bounded(-1, 1, (N, A)), share_params=share, **SIZES)
    network = actor[0].module
    observation, images = torch.randn(B, N, F), pictures(B, N)
    together = network(observation, *images)
    alone = network.of_agent(1)(observation[:, 1], *(image[:, 1] for image in images))
    torch.testing.assert_close(alone, tuple(part[:, 1] for part in together))


def test_wrong_images_and_channels_are_errors():
    with pytest.raises(ConfigError, match=r"model.cnn must hold at least one number of channels, .*; got \(\)"):
        ModelConfig(cnn=())
    encoder = ImageEncoder(IMAGES[:1], n_agents=N, share_params=False, model=MODEL)
    with pytest.raises(ValueError, match=r"'image_eye' must have shape \['\*B', 3, 10, 9, 3\]; got \[4, 2, 10, 9, 3\]"):
        encoder([pictures(B, 2)[0]])
    with pytest.raises(ValueError, match=r"the images must be \['image_eye'\]; got 0 of them"):
        encoder([])


@pytest.mark.slow
def test_images_of_one_channel_compile():
    image = ImageSpec(name="image", shape=(8, 8, 1), divide_by=255.0)
    encoder = ImageEncoder([image], n_agents=2, share_params=True, model=MODEL)

    def gradients(data):
        out = encoder([data.get("image")]).square().sum()
        return {("gradient", i): x for i, x in enumerate(torch.autograd.grad(out, list(encoder.parameters())))}

    data = TensorDict({"image": torch.randint(256, (4, 2, 8, 8, 1), dtype=torch.uint8)}, [4])
    torch.testing.assert_close(TracedFunction(gradients, compile=True)(data), gradients(data))
