"""The update step: eager, replayed and compiled."""

import copy
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torchrl.objectives import SoftUpdate

from masac import MultiGroupLoss
from masac.training import traced_function as tracing
from masac.training.traced_function import TracedFunction
from masac.training.update import NonFiniteError, UpdateStep
from tests.losses.common import N, clone_loss, make_batch, noisy_loss, our_actor, our_critic
from tests.losses.discrete_common import discrete_batch, discrete_loss, our_discrete_actor, our_discrete_critic
from tests.losses.memory_common import make_loss, memory, sequences


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
    batches[0]["next", "agents", "reward"][3] = torch.nan
    with pytest.raises(NonFiniteError):
        update(batches[0])


@pytest.mark.slow
def test_memories_compile():
    one = memory()
    data = sequences()["agents"]

    def evaluate(seen):
        after = one.unroll(seen["observation"], seen["memory"][:, 0], seen["begins"], seen["mask"].unsqueeze(-1))
        gradients = torch.autograd.grad(after.square().sum(), list(one.parameters()))
        return {"after": after.detach(), **dict(enumerate(gradients))}

    data["begins"] = torch.rand(*data.batch_size, 1) < 0.2
    torch.testing.assert_close(TracedFunction(evaluate, compile=True)(data), evaluate(data), rtol=1e-5, atol=1e-5)


def losses_with_memories():
    return make_loss(skip_done_states="fill", burn_in=1)


@pytest.mark.parametrize(("make", "data"), [(losses, make_batch), (losses_with_memories, sequences)])
def test_an_update_equals_torchs_adam_and_soft_update(make, data):
    first = make()
    second = clone_loss(make, first)
    batch = data()
    torch.manual_seed(3)
    said = step(first, "graph")(batch.clone())
    optimizer, target = torch.optim.Adam(second.parameters(), lr=1e-3), SoftUpdate(second, tau=0.1)
    torch.manual_seed(3)
    out = second(batch.clone())
    (out["loss_actor"] + out["loss_qvalue"] + out["loss_alpha"]).backward()
    for kind, trained in (("actor", second.actor_parameters), ("qvalue", second.critic_parameters)):
        torch.testing.assert_close(said[f"grad_norm_{kind}"], nn.utils.get_total_norm([p.grad for p in trained]))
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


@pytest.mark.parametrize("mode", ["eager", "graph"])
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


def discrete_losses():
    return discrete_loss(our_discrete_actor(True), our_discrete_critic(True, "centralized"))


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_the_first_batch_of_every_kind_is_checked(mode):
    update = step(discrete_losses(), mode)
    update(discrete_batch())
    batch = discrete_batch(batch=(3, 2))  # another kind
    batch["agents", "action"][2, 1, 1] = 99
    with pytest.raises(ValueError, match="agent 1 of group 'agents' must have taken one of"):
        update(batch)
    batch["agents", "action"][2, 1, 1] = 0
    update(batch)


def test_graphs_carry_no_checks_and_losses_keep_theirs():
    loss, batch = discrete_losses(), discrete_batch()
    update = step(loss, "graph")
    update(batch.clone())
    batch["agents", "action"][2, 1] = 99
    update(batch.clone())
    with pytest.raises(ValueError, match="agent 1 of group 'agents' must have taken one of"):
        loss(batch)


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
    assert isinstance(update._results, TracedFunction)
    assert update._results.traces == 1


@pytest.mark.slow
def test_compiling_once_is_enough_for_a_run():
    update = step(losses(), "compile")
    update(make_batch(batch=(16,)))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            update(make_batch(batch=(16,)))


# -- what cannot be a graph, and what is not the loss's ---------------------------------------------------------------


class Scaled(nn.Module):
    """Halves large inputs, which Python has to look at."""

    def forward(self, values):
        return values / 2 if values.abs().max() > 1e3 else values


def test_untraceable_functions_run_eagerly_and_warn_once():
    actor = our_actor(True)
    actor[0].module.mlp.register_forward_pre_hook(lambda _, inputs: (Scaled()(inputs[0]),))
    loss = noisy_loss(actor, our_critic(True, "independent"), skip_done_states="fill")
    said = []
    update = step(loss, "graph", warn=said.append)
    update(make_batch(batch=(16,)))
    assert update.mode == "graph"
    large = make_batch(batch=(16,))
    large["agents", "observation"] *= 1e6
    for batch in (large, make_batch(batch=(16,)), large):
        update(batch)
    assert update.mode == "eager"
    (warning,) = said
    assert "computed by Python every time (mode='eager'), which is slower: what runs as a graph must not let" in warning
    assert "test_update.py" in warning


def test_a_fall_back_is_warned_of_where_masac_was_called():
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), skip_done_states="drop")
    with pytest.warns(RuntimeWarning, match="computed by Python every time") as warned:
        step(loss, "graph")
    assert Path(warned[0].filename) == Path(__file__)


def test_code_in_a_folder_called_torch_is_the_users(tmp_path):
    file = tmp_path / "torch" / "mine.py"
    file.parent.mkdir()
    file.write_text("def place(find):\n    return find()\n")
    code: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), code)
    assert f"in place ({file}:2)" == code["place"](tracing._place)


def test_what_cannot_be_compiled_is_replayed_and_says_why(monkeypatch):
    def compile_operations(*_):
        raise ImportError("c.so: file too short")

    monkeypatch.setattr(tracing, "compile_operations", compile_operations)
    warned, told = [], []
    update = step(losses(), "compile", warn=warned.append, tell=told.append)
    for _ in range(2):
        update(make_batch(batch=(16,)))
    assert update.mode == "graph"
    assert told == ["compiling the update ..."]
    (warning,) = warned
    assert "replayed instead of compiled (mode='graph')" in warning
    assert "file too short" in warning


def test_it_tells_when_compiling_begins_and_how_long_it_took(monkeypatch):
    clock = [0.0]

    def compile_operations(module, *_):
        clock[0] += 42.0
        return module

    monkeypatch.setattr(tracing, "compile_operations", compile_operations)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    told = []
    update = step(losses(), "compile", tell=told.append)
    for _ in range(2):
        update(make_batch(batch=(16,)))
    assert told == ["compiling the update ...", "compiled the update in 42 s"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (lambda loss: losses().parameters(), r"9 of 9 that the loss trains missing .* and 9 that are not the loss's"),
        (lambda loss: list(loss.parameters())[1:], r"1 of 9 that the loss trains missing \(log_alpha"),
        (lambda loss: [*loss.parameters(), nn.Parameter(torch.ones(2))], "1 that are not the loss's"),
    ],
)
def test_an_optimizer_of_other_parameters_is_an_error(parameters, said):
    loss = losses()
    with pytest.raises(ValueError, match=said):
        UpdateStep(loss, torch.optim.Adam(parameters(loss)), tau=0.1)


def test_what_is_frozen_may_be_in_the_optimizer_or_not():
    loss = losses()
    loss.log_alpha.requires_grad_(False)
    for parameters in (loss.parameters(), [p for p in loss.parameters() if p.requires_grad]):
        UpdateStep(loss, torch.optim.Adam(parameters), tau=0.1, mode="eager")(make_batch(batch=(16,)))


def test_replaced_or_frozen_parameters_are_an_error():
    loss = losses()
    update = step(loss, "graph")
    update(make_batch(batch=(16,)))
    loss.log_alpha.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'log_alpha' was replaced .*, frozen or unfrozen since"):
        update(make_batch(batch=(16,)))
    loss.log_alpha.requires_grad_(True)
    loss.load_state_dict(copy.deepcopy(loss.state_dict()))
    update(make_batch(batch=(16,)))
    loss.load_state_dict(copy.deepcopy(loss.state_dict()), assign=True)
    with pytest.raises(ValueError, match="'log_alpha' was replaced"):
        update(make_batch(batch=(16,)))


def test_target_critics_move_after_the_loss_was_moved():
    loss = losses()
    update = step(loss, "eager")
    loss.to(torch.float64)
    target = next(iter(loss.target_qvalue_network_params.values(True, True)))
    before = target.clone()
    with torch.no_grad():
        for critic in loss.qvalue_network_params.values(True, True):
            critic.add_(1)
    update._target_update(update._targets, update._critics, 0)
    torch.testing.assert_close(target, before + 0.1)


def test_torchrls_tanh_normal_with_spec_bounds_is_equal():
    low, high = torch.tensor([-1.0, -2.0]).expand(N, 2), torch.tensor([1.0, 3.0]).expand(N, 2)

    def make():
        actor = our_actor(True)
        actor[-1].distribution_kwargs.update(low=low, high=high)
        return noisy_loss(actor, our_critic(True, "independent"), skip_done_states="fill")

    first = make()
    second = clone_loss(make, first)
    batch, said = make_batch(batch=(16,)), []
    for loss, how in ((first, "eager"), (second, "graph")):
        torch.manual_seed(3)
        update = step(loss, how)
        said.append([update(batch.clone()) for _ in range(2)])
        assert update.mode == how
    torch.testing.assert_close(said[1], said[0], rtol=1e-5, atol=1e-5)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match="mode must be 'eager', 'graph' or 'compile'; got 'fast'"):
        step(losses(), "fast")


def test_a_restored_loop_continues_exactly():
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
