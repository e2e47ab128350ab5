"""Exported policies act like the policy they were made of, in a process that has no masac."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded, Categorical, MultiCategorical, OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor, TanhNormal

from masac.actions.discrete import read_discrete_actions
from masac.algorithm import AlgorithmConfig, make_actor
from masac.envs.config import TaskConfig
from masac.envs.space_meanings import GroupSpaces, ObservationPart
from masac.errors import ConfigError
from masac.exporting import export
from masac.exporting.export import export_policy
from masac.exporting.plain_policy import acts_alike, make_plain_policy
from masac.groups import GroupSpec
from masac.networks.config import ModelConfig
from masac.training.config import ExperimentConfig
from masac.training.policies.normalization import RunningNormalizer
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import SavedPolicy

BATCHES = (1, 7)
SMALL = ModelConfig(hidden=(16, 16))


def spec(name, n_agents, action_spec, *, masked=False):
    return GroupSpec(
        name=name,
        n_agents=n_agents,
        observation_dim=4,
        action_spec=action_spec,
        discrete=read_discrete_actions(action_spec),
        has_action_mask=masked,
    )


def uneven(n_agents):
    """Bounds that differ between agents and dimensions."""
    low = -torch.arange(1.0, 2 * n_agents + 1).reshape(n_agents, 2)
    return Bounded(low, 3 - low, (n_agents, 2))


SHARED, PER_AGENT = AlgorithmConfig(), AlgorithmConfig(share_actor=False)
GROUPS = [  # a group, its algorithm and model, whether observations are normalized
    (spec("shared", 3, Bounded(-1, 1, (3, 2))), SHARED, SMALL, True),
    (spec("per_agent", 2, uneven(2)), PER_AGENT, replace(SMALL, layer_norm=True, activation="silu"), False),
    (spec("with_ids", 2, Bounded(0, 100, (2, 1))), SHARED, replace(SMALL, agent_ids=True, activation="gelu"), False),
    (spec("discrete", 2, Categorical(5, (2,))), SHARED, replace(SMALL, activation="tanh"), True),
    (spec("masked", 2, Categorical(5, (2,)), masked=True), PER_AGENT, replace(SMALL, activation="elu"), False),
    (spec("one_hot", 2, OneHot(4, (2, 4)), masked=True), SHARED, SMALL, False),
    (spec("factors", 2, MultiCategorical([3, 2], (2, 2)), masked=True), SHARED, SMALL, True),
]
NAMES = [group.name for group, *_ in GROUPS]

# Choices that begin elsewhere than at 0, and actions that are no vectors.
FORMS = {"masked": ((), (5,)), "factors": ((2, 1), (1, -2)), "per_agent": ((1, 2), ())}


def plain_spaces(group):
    shape, start = FORMS.get(group.name, (tuple(group.action_spec.shape[1:]), ()))
    part = ObservationPart(path=(), offset=0, size=4, shape=(4,), dtype="float32", encoding="values")
    agents = tuple(f"{group.name}_{index}" for index in range(group.n_agents))
    return GroupSpaces(agents=agents, parts=(part,), action_shape=shape, action_start=start)


SPACES = {group.name: plain_spaces(group) for group, *_ in GROUPS}


def make_saved(groups=GROUPS):
    torch.manual_seed(1)
    actors = {group.name: make_actor(group, algorithm, model) for group, algorithm, model, _ in groups}
    normalizers = {group.name: RunningNormalizer(4) for group, *_, normalized in groups if normalized}
    for normalizer in normalizers.values():
        normalizer.merge(*normalizer.moments(torch.randn(100, 4) * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 5))
    policy = Policy([group for group, *_ in groups], actors, normalizers).eval()
    config = ExperimentConfig(task=TaskConfig(kwargs={"n_agents": 3}))
    return SavedPolicy(policy=policy, config=config, frames=1234, file=Path("policy.pt"))


def make_inputs(group, batch):
    generator = torch.Generator().manual_seed(batch)
    # Large ones among them, for which tanh and the normalizer's clipping saturate.
    size = torch.logspace(-1, 2, batch * group.n_agents).reshape(batch, group.n_agents, 1)
    inputs = {"observation": torch.randn(batch, group.n_agents, 4, generator=generator) * size}
    if group.has_action_mask:
        legal = torch.rand(batch, group.n_agents, group.action_features, generator=generator) < 0.5
        for part in legal.split(list(group.discrete.sizes), -1):
            part[..., -1] |= ~part.any(-1)
        inputs["action_mask"] = legal
    return inputs


def evaluate(saved, group, inputs):
    """The actions of one group, as the trainer's evaluation takes them, in the environment's form."""
    batch = inputs["observation"].shape[0]
    state = TensorDict({group.name: TensorDict(inputs, [batch, group.n_agents])}, [batch])
    alone = Policy([group], {group.name: saved.policy.actors[group.name]}, dict(saved.policy.normalizers.items()))
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        action = alone(state)[group.name, "action"]
    start = torch.tensor(SPACES[group.name].action_start)
    action = action + (start if len(start) != 1 else start[0]) if len(start) else action
    shape = SPACES[group.name].action_shape
    return action.unflatten(-1, shape) if len(shape) > 1 else action


# What the files need: PyTorch or ONNX Runtime, and neither masac nor what it is built on.
ELSEWHERE = """
import sys
for name in ("masac", "torchrl", "tensordict"):
    sys.modules[name] = None  # importing it raises
import numpy as np, onnxruntime, torch
folder, names, batches = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
given, out = np.load(f"{folder}/inputs.npz"), {}
for name in names:
    program = torch.export.load(f"{folder}/policy.{name}.pt2").module()
    session = onnxruntime.InferenceSession(f"{folder}/policy.{name}.onnx")
    assert {port.shape[0] for port in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    for batch in batches:
        start = f"{name}/{batch}/"
        inputs = {key.removeprefix(start): given[key] for key in given if key.startswith(start)}
        (out[start + "onnx"],) = session.run(["action"], inputs)
        out[start + "pt2"] = program(*(torch.from_numpy(value) for value in inputs.values())).numpy()
np.savez(f"{folder}/actions.npz", **out)
"""


@pytest.fixture(scope="module")
def saved():
    return make_saved()


@pytest.fixture(scope="module")
def elsewhere(saved, tmp_path_factory):
    """The folder of the exported policies, with the actions that they took in another process."""
    folder = tmp_path_factory.mktemp("exported")
    for suffix in (".onnx", ".pt2"):
        files = export_policy(saved, SPACES, folder / f"policy{suffix}")
        assert files == [folder / f"policy.{name}{suffix}" for name in NAMES]
    inputs = {
        f"{group.name}/{batch}/{name}": value.numpy()
        for group, *_ in GROUPS
        for batch in BATCHES
        for name, value in make_inputs(group, batch).items()
    }
    np.savez(folder / "inputs.npz", **inputs)
    arguments = [str(folder), " ".join(NAMES), " ".join(map(str, BATCHES))]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@pytest.mark.parametrize(("group", "algorithm", "model", "normalized"), GROUPS, ids=NAMES)
def test_exported_actions_are_those_of_evaluation(saved, elsewhere, group, algorithm, model, normalized, suffix):
    actions = np.load(elsewhere / "actions.npz")
    about = json.loads((elsewhere / f"policy.{group.name}.{suffix}.json").read_text())
    for batch in BATCHES:
        inputs = make_inputs(group, batch)
        expected = evaluate(saved, group, inputs).numpy()
        got = actions[f"{group.name}/{batch}/{suffix}"]
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)
        said = about["outputs"]["action"]
        assert (["batch", *got.shape[1:]], str(got.dtype)) == (said["shape"], said["dtype"])
        for name, value in inputs.items():
            read = about["inputs"][name]
            assert (["batch", *value.shape[1:]], str(value.numpy().dtype)) == (read["shape"], read["dtype"])
        if group.discrete is None:
            low, high = np.array(said["low"]), np.array(said["high"])
            assert ((low <= got) & (got <= high)).all()
        if "action_mask" in inputs:
            indices = torch.from_numpy(got).reshape(batch, group.n_agents, -1) - torch.tensor(said.get("start", 0))
            one_hot = group.discrete.one_hot(indices, got.shape[:2], group.discrete.sizes, torch.bool)
            assert inputs["action_mask"][one_hot].all()
    assert about["normalizes_observations"] == normalized


def test_saturated_actions_stay_as_far_within_their_bounds(saved):
    group = GROUPS[2][0]  # bounds of 0 and 100: TorchRL's tanh ends at 1 - 1e-6, which makes 5e-5 of the action
    inputs = {"observation": 1e4 * torch.randn(20, 2, 4)}
    actions = make_plain_policy(saved.policy, group, SPACES[group.name])(**inputs)
    assert 0 < actions.min() < 1e-3
    torch.testing.assert_close(actions, evaluate(saved, group, inputs), atol=1e-5, rtol=0)


def test_an_agent_without_a_legal_action_acts_as_if_all_were(saved):
    factors = GROUPS[-1][0]
    plain, inputs = make_plain_policy(saved.policy, factors, SPACES["factors"]), make_inputs(factors, 7)
    none = torch.zeros_like(inputs["action_mask"])
    assert torch.equal(plain(inputs["observation"], none), plain(inputs["observation"], ~none))


@pytest.mark.parametrize("group", [group for group, *_ in GROUPS], ids=NAMES)
def test_the_policy_of_one_agent_acts_as_that_agent_of_the_group(saved, group):
    spaces, inputs = SPACES[group.name], make_inputs(group, 7)
    together = make_plain_policy(saved.policy, group, spaces)(**inputs)
    alike = acts_alike(saved.policy, group)
    assert alike == (group.name not in ("per_agent", "with_ids", "masked"))
    for index in range(group.n_agents):
        alone = make_plain_policy(saved.policy, group, spaces, agent=0 if alike else index)
        action = alone(**{name: value[:, index] for name, value in inputs.items()})
        torch.testing.assert_close(action, together[:, index], atol=1e-5, rtol=1e-6)


@pytest.mark.slow
def test_agents_with_shared_weights_share_an_exported_file(saved, tmp_path):
    files = export_policy(saved, SPACES, tmp_path / "p.pt2", per_agent=True)
    ours = ["per_agent_0", "per_agent_1", "with_ids_0", "with_ids_1", "discrete", "masked_0", "masked_1", "one_hot"]
    assert [file.name for file in files] == [f"p.{name}.pt2" for name in ("shared", *ours, "factors")]
    about = {file.name.split(".")[1]: json.loads(Path(f"{file}.json").read_text()) for file in files}
    assert about["shared"]["agents"] == ["shared_0", "shared_1", "shared_2"]
    assert about["masked_1"]["agents"] == ["masked_1"]
    assert about["masked_1"]["inputs"]["action_mask"]["shape"] == ["batch", 5]
    uneven_action = about["per_agent_1"]["outputs"]["action"]
    assert (uneven_action["shape"], uneven_action["low"]) == (["batch", 1, 2], [[-3.0, -4.0]])
    program, observation = torch.export.load(files[2]).module(), torch.randn(5, 4)
    expected = make_plain_policy(saved.policy, GROUPS[1][0], SPACES["per_agent"])(torch.stack([observation] * 2, 1))
    torch.testing.assert_close(program(observation), expected[:, 1])


def test_the_description_names_inputs_outputs_and_origin(saved, tmp_path):
    group = GROUPS[4][0]
    saved = replace(saved, policy=Policy([group], {"masked": saved.policy.actors["masked"]}, {}))
    spaces = replace(SPACES["masked"], feature_names=("x", "y", "vx", "vy"))
    export_policy(saved, {"masked": spaces}, tmp_path / "policy.pt2")
    about = json.loads((tmp_path / "policy.pt2.json").read_text())
    assert (about["group"], about["agents"], about["frames"]) == ("masked", ["masked_0", "masked_1"], 1234)
    assert about["task"] == {"suite": "vmas", "scenario": "navigation", "factory": None, "kwargs": {"n_agents": 3}}
    action = {"kind": "discrete", "encoding": "categorical", "shape": ["batch", 2], "dtype": "int64", "sizes": [5]}
    assert about["outputs"] == {"action": {**action, "start": [5]}}
    assert about["inputs"]["action_mask"] == {"shape": ["batch", 2, 5], "dtype": "bool", "true": "legal"}
    part = {"path": [], "offset": 0, "size": 4, "shape": [4], "dtype": "float32", "encoding": "values"}
    seen = {"shape": ["batch", 2, 4], "dtype": "float32", "names": ["x", "y", "vx", "vy"], "parts": [part]}
    assert about["inputs"]["observation"] == seen


def test_names_unfit_for_files_are_escaped_and_stay_distinct(saved, tmp_path):
    names = ["red/uav", "red_uav", "Red\\uav", "läufer 1"]
    groups = [replace(GROUPS[0][0], name=name) for name in names]
    policy = Policy(groups, dict.fromkeys(names, saved.policy.actors["shared"]), {})
    files = export_policy(
        replace(saved, policy=policy), dict.fromkeys(names, SPACES["shared"]), tmp_path / "policy.v2.pt2"
    )
    assert [file.name for file in files] == [
        f"policy.v2.{name}.pt2" for name in ("red_uav", "red_uav_2", "Red_uav_3", "läufer_1")
    ]
    assert json.loads(Path(f"{files[0]}.json").read_text())["group"] == "red/uav"


def test_one_group_gets_the_very_name_and_random_groups_no_file(tmp_path):
    saved = make_saved(GROUPS[:1])
    random = GROUPS[3][0]
    saved = replace(saved, policy=Policy([*saved.policy.groups, random], saved.policy.actors, saved.policy.normalizers))
    assert export_policy(saved, SPACES, tmp_path / "deep" / "er.pt2") == [tmp_path / "deep" / "er.pt2"]
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["er.pt2", "er.pt2.json"]
    with pytest.raises(ConfigError, match=r"of a group that learned; 'discrete' acts at random\..*learned: shared"):
        make_plain_policy(saved.policy, random, SPACES[random.name])


def own_network():
    module = nn.Sequential(nn.Linear(4, 4))
    split = nn.Sequential(module, Halves())
    return TensorDictModule(
        split, in_keys=[("shared", "observation")], out_keys=[("shared", "loc"), ("shared", "scale")]
    )


class Halves(nn.Module):
    def forward(self, out):
        mean, scale = out.chunk(2, -1)
        return mean, scale.exp()


class OtherTanhNormal(TanhNormal):
    pass


@pytest.mark.parametrize("kind", ["network", "distribution", "module"])
def test_actors_that_are_not_masacs_own_are_named(tmp_path, kind):
    saved = make_saved(GROUPS[:1])
    ours = saved.policy.actors["shared"]
    module, distribution = (own_network(), TanhNormal) if kind == "network" else (ours[0], OtherTanhNormal)
    own = module
    if kind != "module":
        own = ProbabilisticActor(
            module,
            in_keys={"loc": ("shared", "loc"), "scale": ("shared", "scale")},
            out_keys=[("shared", "action")],
            distribution_class=distribution,
        )
    saved = replace(saved, policy=Policy(saved.policy.groups, {"shared": own}, {}))
    with pytest.raises(ConfigError, match=r"an exported actor must be .* that of group 'shared' is a"):
        export_policy(saved, SPACES, tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_say_what_to_do(tmp_path, monkeypatch):
    saved = make_saved(GROUPS[:1])
    with pytest.raises(ConfigError, match=r"must end in \.onnx or \.pt2; got 'policy\.pth'"):
        export_policy(saved, SPACES, tmp_path / "policy.pth")
    (tmp_path / "policy.pt2").mkdir()
    with pytest.raises(ConfigError, match=r"a writable file; .*Is a directory"):
        export_policy(saved, SPACES, tmp_path / "policy.pt2")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'onnx and onnxscript must be installed .*"masac\[export\]", or write a \.pt2'
    ):
        export_policy(saved, SPACES, tmp_path / "policy.onnx")
