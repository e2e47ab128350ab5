"""Trained policies as files that run without masac: ONNX, and PyTorch's own exported programs."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded

from masac import __version__
from masac.checks import ConfigError
from masac.groups import GroupSpec, action_bounds
from masac.training.atomic import write_atomically
from masac.training.plain_policy import PlainPolicy, make_plain_policy
from masac.training.saved_policy import SavedPolicy

SUFFIXES = (".onnx", ".pt2")

NEEDED_FOR_ONNX = ("onnx", "onnxscript")


def check_export_file(path: Path) -> None:
    """Raise :class:`ConfigError` unless a policy can be exported to ``path``."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"an export must end in {' or '.join(SUFFIXES)}; got {path.name!r}. Change it with -o FILE.")
    missing = [name for name in NEEDED_FOR_ONNX if find_spec(name) is None] if path.suffix == ".onnx" else []
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} must be installed to write {path.name}. "
            'Install it with pip install "masac[export]", or write a .pt2.'
        )


def export_policy(saved: SavedPolicy, path: Path) -> list[Path]:
    """Write the policy without noise of every group that learned, and what goes in and out of it.

    Inputs are ``observation``, float32 ``[batch, N, F]``, and for groups with an action mask ``action_mask``, bool
    ``[batch, N, D]``; the output is ``action``, in the environment's own form and units. Any batch size will do.
    Beside every FILE there is a ``FILE.json`` with the specs of both.

    Args:
        saved: the policy.
        path: the file, ``.onnx`` or ``.pt2``; with several groups ``policy.GROUP.onnx`` for each.

    Returns:
        The files with policies.

    Raises:
        ConfigError: for another suffix, without the packages for it, for actors that are not masac's own, or where the
            file cannot be written.
    """
    check_export_file(path)
    learned = [group for group in saved.groups if group.name in saved.policy.actors]
    files = [path if len(learned) == 1 else path.with_suffix(f".{group.name}{path.suffix}") for group in learned]
    for group, file in zip(learned, files, strict=True):
        plain = make_plain_policy(saved.policy, group)
        content = _as_onnx(plain, group) if path.suffix == ".onnx" else _as_program(plain, group)
        about = json.dumps(describe(saved, group), indent=2) + "\n"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda out, content=content: out.write(content))
            beside = file.with_name(f"{file.name}.json")
            write_atomically(beside, lambda out, about=about: out.write(about.encode()))
        except OSError as error:
            raise ConfigError(f"an export must be a file that can be written; {error}. Change it with -o.") from error
    return files


def describe(saved: SavedPolicy, group: GroupSpec) -> dict[str, Any]:
    """What goes in and out of the exported policy of a group, and where it comes from; plain JSON."""
    n_agents = group.n_agents
    inputs = {"observation": {"shape": ["batch", n_agents, group.observation_dim], "dtype": "float32"}}
    if group.has_action_mask and group.discrete is not None:
        inputs["action_mask"] = {"shape": ["batch", n_agents, group.action_features], "dtype": "bool"}
    task = saved.config.task
    return {
        "group": group.name,
        "n_agents": n_agents,
        "inputs": inputs,
        "outputs": {"action": _describe_action(group)},
        "normalizes_observations": group.name in saved.policy.normalizers,
        "task": {"suite": task.suite, "scenario": task.scenario, "factory": task.factory, "kwargs": dict(task.kwargs)},
        "frames": saved.frames,
        "masac": __version__,
    }


def _describe_action(group: GroupSpec) -> dict[str, Any]:
    if group.discrete is None:
        low, high = action_bounds(cast(Bounded, group.action_spec))
        shape = ["batch", *low.shape]
        bounds = {"low": low.tolist(), "high": high.tolist()}
        return {"kind": "continuous", "shape": shape, "dtype": "float32", **bounds}
    sizes = list(group.discrete.sizes or ())
    last = {"categorical": [], "multi-discrete": [len(sizes)], "one-hot": sizes}[group.discrete.encoding]
    return {
        "kind": "discrete",
        "encoding": group.discrete.encoding,
        "shape": ["batch", group.n_agents, *last],
        "dtype": "int64",
        "sizes": sizes,
    }


def _example(group: GroupSpec) -> tuple[Tensor, ...]:
    batch = 2  # neither 0 nor 1, which PyTorch takes for sizes that never change
    observation = torch.zeros(batch, group.n_agents, group.observation_dim)
    if group.discrete is None or not group.has_action_mask:
        return (observation,)
    return observation, torch.ones(batch, group.n_agents, group.action_features, dtype=torch.bool)


def _trace(plain: PlainPolicy, group: GroupSpec) -> torch.export.ExportedProgram:
    example = _example(group)
    any_batch = tuple({0: torch.export.Dim("batch", min=1)} for _ in example)
    with torch.no_grad():
        return torch.export.export(plain, example, dynamic_shapes=any_batch)


def _as_program(plain: PlainPolicy, group: GroupSpec) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_trace(plain, group), buffer)
    return buffer.getvalue()


def _as_onnx(plain: PlainPolicy, group: GroupSpec) -> bytes:
    example = _example(group)
    names = ["observation", "action_mask"][: len(example)]
    traced = _trace(plain, group)
    with _without_torchs_worries():
        program = torch.onnx.export(
            traced, example, input_names=names, output_names=["action"], dynamo=True, verbose=False
        )
    assert program is not None
    return program.model_proto.SerializeToString()


@contextmanager
def _without_torchs_worries() -> Iterator[None]:
    """Without what PyTorch's ONNX exporter says of itself: it misses torchvision, and uses a class of its past."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
