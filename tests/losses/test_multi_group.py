"""Several groups: a loss each, every group's actions computed once, critics that see the others or not."""

import copy

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.objectives import SoftUpdate

from masac import (
    GroupSACLoss,
    MultiGroupLoss,
    OtherGroup,
    make_critic,
    make_tanh_normal_actor,
)
from tests.losses.two_groups import MODEL, SEEN_SHEEP, SEEN_WOLVES, WOLVES, B, both, make_batch, sheep_loss, wolves_loss


def test_the_sum_is_that_of_the_groups_own_losses():
    loss = both()
    batch = make_batch()
    torch.manual_seed(1)
    losses = loss(batch.clone())
    names = ("loss_actor", "loss_qvalue", "loss_alpha")
    torch.testing.assert_close(
        losses["loss"], sum(losses[group, name] for group in ("wolves", "sheep") for name in names)
    )
    assert set(losses["wolves"].keys()) >= {*names, "alpha", "entropy"}


def test_independent_groups_give_what_each_loss_gives_alone():
    wolves, sheep = wolves_loss("independent"), sheep_loss("independent")
    batch = make_batch()
    torch.manual_seed(1)
    expected = wolves(batch.clone())
    alone = sheep(batch.clone())
    torch.manual_seed(1)
    losses = MultiGroupLoss([wolves, sheep])(batch)
    for name in ("loss_actor", "loss_qvalue", "loss_alpha", "alpha", "entropy"):
        torch.testing.assert_close(losses["wolves", name], expected[name])
        torch.testing.assert_close(losses["sheep", name], alone[name])


def test_the_priority_is_the_largest_of_any_group():
    wolves, sheep = wolves_loss("independent"), sheep_loss("independent")
    batches = [make_batch() for _ in range(3)]
    torch.manual_seed(1)
    wolves(batches[0])
    sheep(batches[1])
    torch.manual_seed(1)
    MultiGroupLoss([wolves, sheep])(batches[2])
    torch.testing.assert_close(batches[2]["td_error"], batches[0]["td_error"].maximum(batches[1]["td_error"]))


@pytest.mark.parametrize("critic_sees", ["group", "all_groups"])
def test_every_actor_runs_once_in_each_state(critic_sees):
    loss = both(critic_sees)
    calls = dict.fromkeys(("wolves", "sheep"), 0)
    for name, one in loss.losses.items():
        act = one._act

        def counted(state, name=name, act=act):
            calls[name] += 1
            return act(state)

        one._act = counted
    loss(make_batch())
    assert calls == {"wolves": 2, "sheep": 2}


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
@pytest.mark.parametrize("critic_sees", ["group", "all_groups"])
def test_a_groups_actor_loss_reaches_its_own_actor_only(critic_sees, kind):
    loss = both(critic_sees, kind)
    losses = loss(make_batch())
    for name, other in (("wolves", "sheep"), ("sheep", "wolves")):
        loss.zero_grad()
        losses[name, "loss_actor"].backward(retain_graph=True)
        own = loss.losses[name].actor_network_params.values(True, True)
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in own)
        for parameters in (loss.losses[other].actor_network_params, loss.losses[name].qvalue_network_params):
            assert all(p.grad is None or (p.grad == 0).all() for p in parameters.values(True, True))


@pytest.mark.parametrize("kind", ["centralized", "pooled"])
def test_a_critic_sees_the_other_groups_observations_and_actions(kind):
    loss = both("all_groups", kind)
    batch = make_batch()
    for change in ("observation", "action"):
        other = batch.clone()
        if change == "action":
            other["sheep", "action"] = (batch["sheep", "action"] + 1) % 3
        else:
            other["sheep", change] = batch["sheep", change] + 1.0
        losses = []
        for data in (batch, other):
            torch.manual_seed(1)
            losses.append(loss(data)["wolves", "loss_qvalue"])
        assert losses[0] != losses[1]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("skip", [False, "fill", "drop"])
@pytest.mark.parametrize("kind", ["centralized", "pooled"])
@pytest.mark.parametrize("critic_sees", ["group", "all_groups"])
def test_what_the_dead_of_any_group_hold_changes_nothing(critic_sees, kind, skip):
    generator = torch.Generator().manual_seed(0)
    masks = {
        "wolves": torch.rand(B, 3, generator=generator) < 0.6,
        "sheep": torch.rand(B, 2, generator=generator) < 0.6,
    }
    masks["wolves"][0], masks["sheep"][1] = False, False  # all of a group are dead
    loss = both(critic_sees, kind, skip_done_states=skip)
    results = []
    for garbage in (False, True):
        batch = make_batch(masks=masks)
        for group, mask in masks.items() if garbage else ():
            for state in (batch, batch["next"]):
                state[group, "observation"][~mask] = float("nan")
            batch[group, "action"][~mask] = -9 if group == "sheep" else float("nan")
            batch["next", group, "reward"][~mask] = float("nan")
        torch.manual_seed(1)
        loss.zero_grad()
        losses = loss(batch)
        losses["loss"].backward()
        results.append([losses["loss"], batch["td_error"], *(p.grad.clone() for p in loss.parameters())])
    for one, other in zip(*results, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_an_ended_agent_of_another_group_is_zeros_to_a_critic():
    terminated = {"wolves": torch.zeros(B, 3, 1, dtype=torch.bool), "sheep": torch.zeros(B, 2, 1, dtype=torch.bool)}
    terminated["sheep"][:, 0] = True
    loss = both("all_groups", skip_done_states="fill")
    seen = []
    critic = loss.losses["wolves"].qvalue_network
    stacked = critic.stacked_values
    critic.stacked_values = lambda inputs, params, **kwargs: (
        seen.append(inputs.clone()),
        stacked(inputs, params, **kwargs),
    )[1]
    loss(make_batch(terminated=terminated))
    targets, executed, current = seen
    assert (targets["sheep", "observation"][:, 0] == 0).all()
    assert (targets["sheep", "action"][:, 0] == 0).all()
    assert (~targets["sheep", "alive"][:, 0]).all()
    assert (targets["sheep", "action"][:, 1].sum(-1) == 1).all()
    assert executed["sheep", "alive"].all()
    assert not current["sheep", "action"].requires_grad
    assert current["wolves", "action"].requires_grad


def test_each_group_has_an_updater_of_its_targets(recwarn):
    loss = both("all_groups")
    targets = [SoftUpdate(one, tau=0.25) for one in loss.group_losses]
    pairs = [(one.qvalue_network_params, one.target_qvalue_network_params) for one in loss.group_losses]
    with torch.no_grad():
        for source, _ in pairs:
            for parameter in source.values(True, True):
                parameter.add_(1.0)
    before = [moved.clone() for _, moved in pairs]
    for target in targets:
        target.step()
    for (source, moved), old in zip(pairs, before, strict=True):
        for key in moved.keys(True, True):
            torch.testing.assert_close(moved[key], old[key] + 0.25 * (source[key] - old[key]).detach())
    loss(make_batch())
    assert not [warning for warning in recwarn if "target network updater" in str(warning.message)]


def test_parameters_appear_once_and_the_state_round_trips():
    loss, other = both("all_groups"), both("all_groups")
    names = [name for name, _ in loss.named_parameters()]
    assert len(names) == len(set(names)) == sum(len(list(one.parameters())) for one in loss.losses.values())
    other.load_state_dict(loss.state_dict())
    batch = make_batch()
    values = []
    for one in (loss, other, copy.deepcopy(loss)):
        torch.manual_seed(1)
        values.append(one(batch)["loss"])
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


def test_targets_have_an_entry_a_group():
    targets = both("all_groups").target_value(make_batch())
    assert targets["wolves"].shape == (B, 3, 1)
    assert targets["sheep"].shape == (B, 2, 1)


def test_in_keys_are_the_entries_that_are_read():
    for critic_sees in ("group", "all_groups"):
        loss = both(critic_sees)
        keys = loss.in_keys
        assert ("sheep", "action") in keys
        assert ("next", "sheep", "action") not in keys
        assert not any(key[-1] == "alive" for key in keys)
        loss(make_batch().select(*keys))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiGroupLoss([]), "one loss per group"),
        (lambda: MultiGroupLoss([wolves_loss(), wolves_loss()]), "one loss per group"),
        (lambda: MultiGroupLoss([wolves_loss(reduction="none")]), "must be reduced"),
        (lambda: MultiGroupLoss([wolves_loss()], critic_sees="some"), "critic_sees must be"),
        (
            lambda: MultiGroupLoss([wolves_loss(), sheep_loss()], critic_sees="all_groups"),
            "must read the observations and actions of group 'sheep'",
        ),
        (lambda: MultiGroupLoss([wolves_loss(sees_sheep=True), sheep_loss()]), "must not read other groups"),
        (lambda: wolves_loss("independent", sees_sheep=True), "must be 'centralized', 'pooled' or 'team'"),
    ],
)
def test_what_does_not_fit_together_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("gradient", ["own", "joint"])
def test_a_team_critic_may_see_the_other_groups(gradient):
    kwargs = {"terminated_reduction": "any", "reward_reduction": "mean"}
    wolves = wolves_loss("team", sees_sheep=True, actor_gradient=gradient, **kwargs)
    loss = MultiGroupLoss([wolves, sheep_loss(sees_wolves=True)], critic_sees="all_groups")
    loss(make_batch())["loss"].backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def cats_loss(**kwargs):
    """A second continuous group, which sees the wolves."""
    shared = {"group": "cats", "n_agents": 2, "observation_dim": 4, "share_params": True, "model": MODEL}
    actor = make_tanh_normal_actor(**shared, action_spec=Bounded(-1, 1, (2, 1), dtype=torch.get_default_dtype()))
    critic = make_critic("centralized", **shared, action_dim=1, others=[SEEN_WOLVES])
    return GroupSACLoss(actor, critic, group="cats", **kwargs)


def wolves_that_see_cats():
    shared = {**WOLVES, "share_params": True, "model": MODEL}
    seen = OtherGroup(group="cats", n_agents=2, observation_dim=4, action_dim=1)
    actor = make_tanh_normal_actor(**shared, action_spec=Bounded(-1, 1, (3, 2), dtype=torch.get_default_dtype()))
    return GroupSACLoss(actor, make_critic("centralized", **shared, action_dim=2, others=[seen]), group="wolves")


def test_no_gradient_reaches_another_groups_actions():
    loss = MultiGroupLoss([wolves_that_see_cats(), cats_loss()], critic_sees="all_groups")
    batch = make_batch()
    for state in (batch, batch["next"]):
        state["cats"] = TensorDict({"observation": torch.randn(B, 2, 4)}, [B, 2])
    batch["cats", "action"] = torch.rand(B, 2, 1)
    batch["next", "cats", "reward"] = torch.randn(B, 2, 1)
    batch["next", "cats", "terminated"] = torch.zeros(B, 2, 1, dtype=torch.bool)
    losses = loss(batch)
    losses["wolves", "loss_actor"].backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in loss.losses["cats"].parameters())


def test_every_value_depends_on_all_of_the_other_group():
    network = wolves_loss(sees_sheep=True).qvalue_network.module
    context = torch.randn(B, SEEN_SHEEP.features, requires_grad=True)
    values = network(torch.randn(B, 3, 4), torch.randn(B, 3, 2), torch.ones(B, 3, 1), context)
    for agent in range(3):
        (gradient,) = torch.autograd.grad(values[:, agent].sum(), context, retain_graph=True)
        assert (gradient != 0).all()


def test_batches_of_time():
    loss = both("all_groups")
    flat = make_batch()
    torch.manual_seed(1)
    expected = loss(flat)["loss"]
    torch.manual_seed(1)
    torch.testing.assert_close(loss(flat.reshape(2, 3))["loss"], expected)


def test_the_discount_and_the_priority_key_are_set_for_all():
    loss = both()
    loss.make_value_estimator(gamma=0.25)
    assert [one.value_estimator.gamma.item() for one in loss.losses.values()] == [0.25, 0.25]
    loss.set_keys(priority="surprise")
    batch = make_batch()
    loss(batch)
    assert "surprise" in batch.keys()  # noqa: SIM118
    assert ("sheep", "action_mask") in loss.optional_in_keys


@pytest.mark.parametrize("name", ["loss", "a.b", "items"])
def test_a_name_that_means_something_else_is_refused(name):
    with pytest.raises(ValueError, match="a group must have a name without a dot"):
        MultiGroupLoss([GroupSACLoss(wolves_loss().actor_network, wolves_loss().qvalue_network, group=name)])


def test_a_reminder_stays_for_targets_that_nothing_updates():
    loss = MultiGroupLoss([wolves_loss(), sheep_loss(delay_qvalue=False)])
    with pytest.warns(UserWarning, match="target network updater"):
        loss(make_batch())


def test_ended_agents_are_absent_to_other_agents_critics():
    terminated = {"wolves": torch.zeros(B, 3, 1, dtype=torch.bool), "sheep": torch.zeros(B, 2, 1, dtype=torch.bool)}
    terminated["sheep"][:, 0] = True
    batch = make_batch(terminated=terminated)
    loss = both("all_groups")
    loss.losses["sheep"].centralized_critic = False
    views = loss._views(batch)
    (following,) = views[0].others.next
    assert following.group == "sheep"
    assert not following.acts[:, 0].any()


def test_other_groups_act_now_by_policy_and_then_by_data():
    batch = make_batch()
    loss = both("all_groups")
    (wolves, _) = loss._views(batch)
    (executed,), (current,) = wolves.others.executed, wolves.others.current
    assert executed.action.argmax(-1).tolist() == batch["sheep", "action"].tolist()
    # 12 draws of a policy that is not the data's differ from them somewhere.
    assert current.action.argmax(-1).tolist() != executed.action.argmax(-1).tolist()


def test_a_critic_of_all_groups_alone_is_told_where_it_belongs():
    batch = make_batch().exclude(("sheep", "action"))
    with pytest.raises(KeyError, match=r"'sheep'.*MultiGroupLoss\(\.\.\., critic_sees='all_groups'\)"):
        wolves_loss(sees_sheep=True)(batch)


def test_a_call_with_keywords():
    loss, batch = both(), make_batch()
    torch.manual_seed(1)
    expected = loss(batch.clone())["loss"]
    flat = {"_".join(key): value for key, value in batch.items(True, True)}
    torch.manual_seed(1)
    found = loss(**{name: value for name, value in flat.items() if name in {"_".join(k) for k in loss.in_keys}})
    torch.testing.assert_close(found[-1], expected)
