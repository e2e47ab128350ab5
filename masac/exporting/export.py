"""Writes trained policies as files that run without masac: ONNX and PyTorch's exported programs."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torchrl.data import Bounded

from masac import __version__
from masac.envs.space_meanings import GroupSpaces, ObservationPart
from masac.errors import ConfigError
from masac.exporting.plain_policy import (
    AnyPlainPolicy,
    PlainImagePolicy,
    acts_alike,
    input_names,
    make_plain_policy,
)
from masac.files.atomic_write import write_atomically
from masac.groups import GroupSpec, action_bounds
from masac.keys import as_path
from masac.training.policies.opponents import memory_of
from masac.training.policies.policy import Policy
from masac.training.policies.saved_policy import SavedPolicy

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


def export_policy(
    saved: SavedPolicy, spaces: Mapping[str, GroupSpaces], path: Path, *, per_agent: bool = False
) -> list[Path]:
    """Write the policy of every group that learned, without noise, and a description of its inputs and outputs.

    Inputs are ``observation``, float32 ``[batch, N, F]`` (none without a vector), then the images
    ``[batch, N, *shape]``, and for groups with an action mask ``action_mask``, bool ``[batch, N, D]``. The output is
    ``action``, in the environment's own form and units; groups with hybrid actions have another one,
    ``discrete_action``, ``[batch, N, K]``. With ``model.memory`` there are an input ``memory`` after the observation
    vector and an output ``memory_after``, float32 ``[batch, N, S]``: zeros go in where an agent begins, and what came
    out in its next step. Any batch size works.
    A ``FILE.json`` beside every FILE says what the numbers mean (see :func:`describe`).

    Args:
        saved: the policy.
        spaces: of its environment, by group.
        path: the file, ``.onnx`` or ``.pt2``; several groups are written to ``policy.GROUP.onnx`` each.
        per_agent: write actors of single agents, whose inputs and outputs have no agent axis: one per group if all its
            agents act by the same network, else ``policy.AGENT.onnx`` for each agent.

    Returns:
        The files with policies.

    Raises:
        ConfigError: for another suffix, missing packages, actors that are not masac's own, or a file that cannot be
            written.
    """
    check_export_file(path)
    exports = [
        export
        for group in saved.groups
        if group.name in saved.policy.actors
        for export in _exports_of(saved.policy, group, spaces[group.name], per_agent)
    ]
    files = _files(path, [export.name for export in exports])
    for export, file in zip(exports, files, strict=True):
        plain = make_plain_policy(saved.policy, export.group, export.spaces, agent=export.agent)
        content = _as_onnx(plain, export) if path.suffix == ".onnx" else _as_program(plain, export)
        about = _as_json(describe(saved, export)) + "\n"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda out, content=content: out.write(content))
            beside = file.with_name(f"{file.name}.json")
            write_atomically(beside, lambda out, about=about: out.write(about.encode()))
        except OSError as error:
            raise ConfigError(f"an export must be a writable file; got {error}. Change it with -o.") from error
    return files


@dataclass(frozen=True, kw_only=True)
class Export:
    """The contents of one file.

    Args:
        name: distinguishes it from other files.
        group: the group of the policy.
        spaces: of the group.
        agent: the index in the group of the single agent; None for the whole group.
        agents: the names of the agents that it is for.
        state_dim: numbers of an agent's memory; 0 without one.
    """

    name: str
    group: GroupSpec
    spaces: GroupSpaces
    agent: int | None
    agents: tuple[str, ...]
    state_dim: int

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in order."""
        return input_names(self.group, remembers=self.state_dim > 0)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in order."""
        actions = [as_path(key)[-1] for key in self.group.action_keys]
        return [*actions, "memory_after"] if self.state_dim else actions

    @property
    def lead(self) -> tuple[int, ...]:
        """The dimensions of inputs and outputs after the batch: the number of agents, or none."""
        return (self.group.n_agents,) if self.agent is None else ()


def _exports_of(policy: Policy, group: GroupSpec, spaces: GroupSpaces, per_agent: bool) -> list[Export]:
    memory = memory_of(policy, group.name)
    export = Export(
        name=group.name,
        group=group,
        spaces=spaces,
        agent=0 if per_agent else None,
        agents=spaces.agents,
        state_dim=0 if memory is None else memory.state_dim,
    )
    if not per_agent or acts_alike(policy, group):
        return [export]
    return [replace(export, name=agent, agent=index, agents=(agent,)) for index, agent in enumerate(spaces.agents)]


def _files(path: Path, names: Sequence[str]) -> list[Path]:
    """A file for each name, ``path`` itself for one. Characters that file names may not have become ``_``."""
    if len(names) == 1:
        return [path]
    files: list[Path] = []
    for name in names:
        plain, taken = re.sub(r"[^\w-]+", "_", name), {file.name.lower() for file in files}
        numbered = (f"{path.stem}.{plain}{'' if n == 1 else f'_{n}'}{path.suffix}" for n in count(1))
        files.append(path.with_name(next(one for one in numbered if one.lower() not in taken)))
    return files


def describe(saved: SavedPolicy, export: Export) -> dict[str, Any]:
    """The inputs, outputs and origin of an exported policy, as plain JSON.

    ``inputs.observation.parts`` explains the features of an agent: their place in the environment's observation
    (``path``) and in the vector (``offset``, ``size``), and their encoding (``encoding``, ``divide_by``; see
    :class:`~masac.envs.space_meanings.ObservationPart`).
    """
    group, lead = export.group, ["batch", *export.lead]
    observation: dict[str, Any] = {"shape": [*lead, group.observation_dim], "dtype": "float32"}
    images = {name: {"shape": [*lead, *shape], "dtype": dtype} for name, shape, dtype in _images(export)}
    if export.spaces.feature_names is not None:
        observation["names"] = list(export.spaces.feature_names)
    observation["parts"] = [_describe_part(part) for part in export.spaces.parts]
    inputs = {**({"observation": observation} if group.observation_dim else {}), **images}
    outputs = list(_describe_actions(export))
    if export.state_dim:
        inputs["memory"] = {"shape": [*lead, export.state_dim], "dtype": "float32", "first": 0.0}
        outputs.append({"kind": "memory", "shape": [*lead, export.state_dim], "dtype": "float32"})
    if "action_mask" in export.input_names:
        inputs["action_mask"] = {
            "shape": [*lead, group.action_features - group.continuous_dim],
            "dtype": "bool",
            "true": "legal",
        }
    inputs = {name: inputs[name] for name in export.input_names}  # in the order of the program
    task = saved.config.task
    return {
        "group": group.name,
        "agents": list(export.agents),
        "inputs": inputs,
        "outputs": dict(zip(export.output_names, outputs, strict=True)),
        "normalizes_observations": group.name in saved.policy.normalizers,
        "task": {"suite": task.suite, "scenario": task.scenario, "factory": task.factory, "kwargs": dict(task.kwargs)},
        "frames": saved.frames,
        "masac": __version__,
    }


def _as_json(value: Any, indent: str = "") -> str:
    """JSON with short values on one line."""
    line = json.dumps(value)
    if len(indent) + len(line) <= 110 or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        rows, (begin, end) = [f"{json.dumps(key)}: {_as_json(one, inner)}" for key, one in value.items()], "{}"
    else:
        rows, (begin, end) = [_as_json(one, inner) for one in value], "[]"
    return f"{begin}\n{inner}" + f",\n{inner}".join(rows) + f"\n{indent}{end}"


def _describe_part(part: ObservationPart) -> dict[str, Any]:
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(part).items()}
    if part.encoding != "one-hot":
        del fields["choices"], fields["start"]
    if part.divide_by == 1:
        del fields["divide_by"]
    return fields


def _describe_actions(export: Export) -> Iterator[dict[str, Any]]:
    """The description of each output: of the continuous action or part, then of the discrete one."""
    group, spaces = export.group, export.spaces
    shape = ["batch", *export.lead, *spaces.action_shape]
    if group.discrete is None:
        low, high = action_bounds(cast(Bounded, group.action_spec))
        of_each = [low, high] if export.agent is None else [low[export.agent], high[export.agent]]
        low, high = (bound.reshape(*export.lead, *spaces.action_shape) for bound in of_each)
        yield {"kind": "continuous", "shape": shape, "dtype": "float32", "low": low.tolist(), "high": high.tolist()}
    if group.choices is None:
        return
    sizes = list(group.choices.sizes or ())
    about = {
        "kind": "discrete",
        "encoding": group.choices.encoding,
        "shape": shape if group.discrete is not None else ["batch", *export.lead, len(sizes)],
        "dtype": "int64",
        "sizes": sizes,
    }
    if group.choices.encoding != "one-hot":
        about["start"] = list(spaces.action_start) or [0] * len(about["sizes"])
    if spaces.controls is not None:
        about["controls"] = [list(control) for control in spaces.controls]
    yield about


def _images(export: Export) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and dtype of each image."""
    return [(image.name, image.shape, image.dtype) for image in export.group.images]


def _example(export: Export) -> tuple[Tensor, ...]:
    batch, group = 2, export.group  # PyTorch would treat batches of 0 and 1 as constant sizes
    kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "observation": ((group.observation_dim,), torch.float32),
        "memory": ((export.state_dim,), torch.float32),
        "action_mask": ((group.action_features - group.continuous_dim,), torch.bool),
        **{name: (shape, getattr(torch, dtype)) for name, shape, dtype in _images(export)},
    }
    return tuple(
        torch.ones(batch, *export.lead, *shape, dtype=dtype)
        for shape, dtype in (kinds[name] for name in export.input_names)
    )


def _trace(plain: AnyPlainPolicy, export: Export) -> torch.export.ExportedProgram:
    shapes: Any = _any_batch(export)
    if isinstance(plain, PlainImagePolicy):
        shapes = (shapes,)  # of the one parameter *inputs
    with torch.no_grad():
        return torch.export.export(plain, _example(export), dynamic_shapes=shapes)


def _any_batch(export: Export) -> tuple[dict[int, Any], ...]:
    """The dimensions of any size: the first of each input."""
    return tuple({0: torch.export.Dim("batch", min=1)} for _ in _example(export))


def _as_program(plain: AnyPlainPolicy, export: Export) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_trace(plain, export), buffer)
    return buffer.getvalue()


def _as_onnx(plain: AnyPlainPolicy, export: Export) -> bytes:
    example = _example(export)
    traced = _trace(plain, export)
    with _quiet_onnx_exporter():
        program = torch.onnx.export(
            traced,
            example,
            input_names=export.input_names,
            output_names=export.output_names,
            # Given again for its name; the exporter warns if a second input has the same.
            dynamic_shapes=(*_any_batch(export)[:1], *(None for _ in example[1:])),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet_onnx_exporter() -> Iterator[None]:
    """Suppress what PyTorch's ONNX exporter logs about missing torchvision, and its own deprecated class.

    The logger has a private name; an option of ``torch.onnx.export`` to be quiet would replace this.
    """
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
