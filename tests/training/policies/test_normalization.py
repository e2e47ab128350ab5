"""Normalized observations."""

import math

import torch

from masac.training.policies.normalization import RunningNormalizer


def test_the_normalizer_has_the_moments_of_all_that_it_saw():
    normalizer = RunningNormalizer(3)
    values = torch.randn(50, 4, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -2.0])
    for chunk in values.split(7):
        normalizer.merge(*normalizer.moments(chunk))
    flat = values.reshape(-1, 3).double()
    torch.testing.assert_close(normalizer.mean, flat.mean(0))
    out = normalizer(values).reshape(-1, 3)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(3), atol=5e-3, rtol=0)
    assert out.dtype == torch.float32


def test_the_normalizer_skips_the_dead_and_starts_as_identity():
    normalizer = RunningNormalizer(1)
    values = torch.tensor([[[1.0], [math.nan]], [[3.0], [math.inf]]])
    assert torch.equal(normalizer(torch.tensor([2.0])), torch.tensor([2.0]))
    normalizer.merge(*normalizer.moments(values, torch.tensor([[[True], [False]], [[True], [False]]])))
    assert normalizer.mean.item() == 2.0
    normalizer.merge(*normalizer.moments(values, torch.zeros(2, 2, 1, dtype=torch.bool)))
    assert normalizer.count.item() == 2
