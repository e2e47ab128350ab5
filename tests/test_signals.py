import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from masac import align_signal, expand_to_agents, reduce_over_agents

DTYPES = (torch.bool, torch.float32, torch.float64, torch.int64, torch.uint8)


@st.composite
def signals(draw, dtypes=DTYPES):
    batch = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    n_agents = draw(st.integers(1, 3))
    per_agent = draw(st.booleans())
    shape = (*batch, n_agents) if per_agent else batch
    dtype = draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    values = torch.randint(0, 2 if dtype == torch.bool else 5, shape, generator=generator).to(dtype)
    # [*B, 1] with one agent is the team's: an agent's signal has that shape only as [*B, 1, 1].
    trailing = draw(st.booleans()) or (per_agent and n_agents == 1)
    return values.unsqueeze(-1) if trailing else values, values, batch, n_agents, per_agent


def entries(batch):
    """Every index of a batch."""
    return torch.cartesian_prod(*(torch.arange(size) for size in batch)).reshape(-1, len(batch)) if batch else [()]


def indices(batch):
    return [tuple(int(i) for i in index) for index in entries(batch)]


@given(signals())
def test_expanding_gives_every_agent_its_own_entry_or_the_teams(case):
    signal, values, batch, n_agents, per_agent = case
    out = expand_to_agents(signal, batch, n_agents)
    assert out.shape == (*batch, n_agents, 1)
    assert out.dtype == signal.dtype
    for index in indices(batch):
        for agent in range(n_agents):
            expected = values[(*index, agent)] if per_agent else values[index]
            assert out[(*index, agent, 0)] == expected


@given(signals(), st.data())
def test_reducing_is_the_python_reduction_over_the_masked_agents(case, data):
    signal, values, batch, n_agents, per_agent = case
    how = {"any": any, "all": all} if signal.dtype == torch.bool else {"sum": sum}
    if signal.is_floating_point():
        how["mean"] = lambda agents: sum(agents) / len(agents) if agents else 0.0
    name, python = data.draw(st.sampled_from(sorted(how.items())))
    seed = data.draw(st.integers(0, 2**16))
    mask = torch.rand(*batch, n_agents, 1, generator=torch.Generator().manual_seed(seed)) < 0.6
    out = reduce_over_agents(signal, batch, n_agents, name, mask=mask)
    assert out.shape == (*batch, 1)
    for index in indices(batch):
        if per_agent:
            living = [values[(*index, i)].item() for i in range(n_agents) if mask[(*index, i, 0)]]
            assert out[(*index, 0)].item() == pytest.approx(python(living))
        else:
            assert out[(*index, 0)] == values[index]


@given(signals(), st.sampled_from(["[*B]", "[*B, 1]", "[*B, N]", "[*B, N, 1]"]))
def test_aligning_gives_the_shape_asked_for(case, form):
    signal, _, batch, n_agents, per_agent = case
    like = torch.zeros(
        {"[*B]": batch, "[*B, 1]": (*batch, 1), "[*B, N]": (*batch, n_agents), "[*B, N, 1]": (*batch, n_agents, 1)}[
            form
        ]
    )
    team = form in ("[*B]", "[*B, 1]") or (form == "[*B, N]" and n_agents == 1)
    if team and per_agent:
        with pytest.raises(ValueError, match="but reduce is None"):
            align_signal(signal, like, batch, n_agents)
        how = "any" if signal.dtype == torch.bool else "sum"
        out = align_signal(signal, like, batch, n_agents, reduce=how)
        assert torch.equal(out.reshape(*batch, 1), reduce_over_agents(signal, batch, n_agents, how))
    else:
        out = align_signal(signal, like, batch, n_agents)
        wanted = signal.reshape(like.shape) if team else expand_to_agents(signal, batch, n_agents).reshape(like.shape)
        assert torch.equal(out, wanted)
    assert out.shape == like.shape


def test_expanding_does_not_copy():
    team, agents = torch.zeros(4, 1), torch.zeros(4, 3)
    assert expand_to_agents(team, [4], 3).data_ptr() == team.data_ptr()
    assert expand_to_agents(agents, [4], 3).data_ptr() == agents.data_ptr()


def test_the_batch_size_tells_team_from_agents():
    signal = torch.tensor([[True, False], [False, False]])  # B == N == 2: rank says it is [B, N]
    assert expand_to_agents(signal, [2], 2).squeeze(-1).tolist() == signal.tolist()
    flags = torch.tensor([True, False])  # [B], not [N]
    assert expand_to_agents(flags, [2], 2).squeeze(-1).tolist() == [[True, True], [False, False]]
    assert expand_to_agents(flags, [], 2).squeeze(-1).tolist() == [True, False]  # batch []: [N]


def test_reductions_over_nobody_have_neutral_values():
    nobody = torch.zeros(1, 2, 1, dtype=torch.bool)
    flags, rewards = torch.tensor([[True, False]]), torch.tensor([[1.0, float("nan")]])
    assert reduce_over_agents(flags, [1], 2, "all", mask=nobody).item() is True
    assert reduce_over_agents(flags, [1], 2, "any", mask=nobody).item() is False
    assert reduce_over_agents(rewards, [1], 2, "sum", mask=nobody).item() == 0.0
    assert reduce_over_agents(rewards, [1], 2, "mean", mask=nobody).item() == 0.0


def test_what_a_masked_agent_holds_does_not_matter():
    rewards = torch.tensor([[2.0, float("nan")]])
    mask = torch.tensor([[True, False]])
    assert reduce_over_agents(rewards, [1], 2, "mean", mask=mask).item() == 2.0


@pytest.mark.parametrize("shape", [(5,), (4, 2), (4, 3, 2), (4, 1, 1), (3, 1), (3, 4, 1), (4, 3, 1, 1), ()])
def test_a_wrong_shape_names_signal_shape_batch_and_group(shape):
    for call in (
        lambda x: expand_to_agents(x, [4], 3, name="done"),
        lambda x: reduce_over_agents(x, [4], 3, "sum", name="done"),
        lambda x: align_signal(x, torch.zeros(4, 3, 1), [4], 3, name="done"),
    ):
        with pytest.raises(ValueError, match="done must have shape") as error:
            call(torch.zeros(shape))
        for part in (str(list(shape)), "[4]", "3 agents", "Reshape"):
            assert part in str(error.value)


@pytest.mark.parametrize(
    ("dtype", "how"),
    [(torch.float32, "any"), (torch.float32, "all"), (torch.int64, "any"), (torch.int64, "mean"), (torch.bool, "sum")],
)
def test_a_reduction_that_does_not_fit_the_dtype_is_an_error(dtype, how):
    with pytest.raises(ValueError, match=r"reward must be .* to be reduced with"):
        reduce_over_agents(torch.zeros(2, 3, dtype=dtype), [2], 3, how, name="reward")


def test_unknown_reductions_float_masks_and_no_agents_fail():
    with pytest.raises(ValueError, match="must be 'any', 'all', 'sum' or 'mean'"):
        reduce_over_agents(torch.zeros(2, 3), [2], 3, "max")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="mask of signal must be bool"):
        reduce_over_agents(torch.zeros(2, 3), [2], 3, "sum", mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match="n_agents must be at least 1"):
        expand_to_agents(torch.zeros(2), [2], 0)
