"""The update step: eager, replayed and compiled."""

import copy

import pytest
import torch
from torchrl.objectives import SoftUpdate

from masac import GroupDiscreteSACLoss, MultiGroupLoss
from masac.graphs import Graph
from masac.training.update import NonFiniteError, UpdateStep
from tests.losses.common import clone_loss, make_batch, noisy_loss, our_actor, our_critic
from tests.losses.discrete_common import discrete_batch, discrete_loss, our_discrete_actor, our_discrete_critic

MODES = ["graph", pytest.param("compile", marks=pytest.mark.slow)]


def losses(share=True, kind="centralized", **options):
    return noisy_loss(our_actor(share), our_critic(share, kind), skip_done_states="fill", **options)


def step(loss, mode, **options):
    return UpdateStep(loss, torch.optim.Adam(loss.parameters(), lr=1e-3), tau=0.1, mode=mode, **options)


@pytest.mark.parametrize(
    ("share", "kind", "mode"),
    [
        *((share, kind, "graph") for share in (True, False) for kind in ("independent", "centralized", "team")),
        pytest.param(True, "centralized", "compile", marks=pytest.mark.slow),
        pytest.param(False, "team", "compile", marks=pytest.mark.slow),
    ],
)
def test_all_modes_go_the_same_way(share, kind, mode):
    options = {"terminated_reduction": "any", "reward_reduction": "mean"} if kind == "team" else {}
    first = losses(share, kind, **options)
    second = clone_loss(lambda: losses(share, kind, **options), first)
    batches = [make_batch(batch=(16,)) for _ in range(5)]
    said = []
    for loss, how in ((first, "eager"), (second, mode)):
        torch.manual_seed(3)
        update = step(loss, how, max_grad_norm=0.5)
        said.append([update(batch.clone()) for batch in batches])
    for one, other in zip(*said, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-5)
    for (name, value), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-5, msg=name)


def test_an_update_is_that_of_torchs_adam_and_torchrls_soft_update():
    first = losses()
    second = clone_loss(losses, first)
    batch = make_batch(batch=(16,))
    torch.manual_seed(3)
    step(first, "graph")(batch.clone())
    optimizer, target = torch.optim.Adam(second.parameters(), lr=1e-3), SoftUpdate(second, tau=0.1)
    torch.manual_seed(3)
    out = second(batch.clone())
    (out["loss_actor"] + out["loss_qvalue"] + out["loss_alpha"]).backward()
    optimizer.step()
    target.step()
    for (name, value), other in zip(second.state_dict().items(), first.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, msg=name)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_it_writes_the_priorities_into_the_batch(mode):
    loss, batch = losses(), make_batch(batch=(16,))
    update = step(loss, mode)  # its target critics begin as copies
    expected = batch.clone()
    torch.manual_seed(3)
    loss(expected)
    torch.manual_seed(3)
    update(batch)
    torch.testing.assert_close(batch["td_error"], expected["td_error"])


@pytest.mark.parametrize("mode", ["eager", *MODES])
def test_nothing_is_applied_where_something_is_not_finite(mode):
    loss, batch = losses(), make_batch(batch=(16,))
    update = step(loss, mode)
    update(batch.clone())
    before = copy.deepcopy(loss.state_dict())
    batch["next", "agents", "reward"][3] = torch.nan
    with pytest.raises(NonFiniteError) as caught:
        update(batch)
    assert "loss_qvalue" in caught.value.terms
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


@pytest.mark.parametrize("mode", ["eager", *MODES])
def test_a_check_of_values_raises_its_own_error_in_every_mode(mode):
    loss: GroupDiscreteSACLoss = discrete_loss(our_discrete_actor(True), our_discrete_critic(True, "centralized"))
    batch = discrete_batch()
    update = step(loss, mode)
    update(batch.clone())
    batch["agents", "action"][2, 1] = 99
    with pytest.raises(ValueError, match="agent 1 of group 'agents' must have taken one of"):
        update(batch)


def test_several_groups_are_updated_at_once():
    loss = MultiGroupLoss([losses()])
    said = step(loss, "graph")(make_batch(batch=(16,)))
    assert {"agents/loss_qvalue", "agents/alpha", "agents/grad_norm_actor"} <= said.keys()


@pytest.mark.parametrize("mode", ["graph", "compile"])
def test_dropping_states_is_computed_by_python_and_says_why(mode):
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), skip_done_states="drop")
    with pytest.warns(RuntimeWarning, match=r"computed by Python every time \(mode='eager'\).*skip_done_states='drop'"):
        update = step(loss, mode)
    assert update.mode == "eager"
    update(make_batch(batch=(16,)))


def test_batches_of_one_kind_are_traced_once():
    update = step(losses(), "graph")
    for _ in range(4):
        update(make_batch(batch=(16,)))
    assert isinstance(update._results, Graph)
    assert update._results.traces == 1


@pytest.mark.slow
def test_compiling_once_is_enough_for_a_run():
    update = step(losses(), "compile")
    update(make_batch(batch=(16,)))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            update(make_batch(batch=(16,)))


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match="mode must be 'eager', 'graph' or 'compile'; got 'fast'"):
        step(losses(), "fast")


def test_a_loop_restored_as_the_page_says_goes_on_as_one_that_never_stopped():
    batch = make_batch(batch=(16,))
    loss, other = losses(), losses()
    update, restored = step(loss, "eager"), step(other, "eager")
    for _ in range(2):
        update(batch.clone())
    other.load_state_dict(loss.state_dict())
    restored.optimizer.load_state_dict(copy.deepcopy(update.optimizer.state_dict()))
    for one in (update, restored):
        torch.manual_seed(3)
        one(batch.clone())
    mine, theirs = loss.state_dict(), other.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    targets = [name for name in mine if "target_qvalue" in name and name.endswith("weight")]
    assert any(not torch.equal(mine[name], mine[name.replace("target_", "")]) for name in targets)
