"""The rows of a batch that count: masks of padding, read the same way on every version of TorchRL.

Shape legend: ``*B`` batch.
"""

from __future__ import annotations

from typing import Any, Literal

from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.objectives import LossModule

from masac.keys import as_path, present_keys

AUTO_ROW_MASKS: tuple[tuple[str, ...], ...] = (("collector", "mask"), ("shifted_valid",))
"""The entries that ``"auto"`` reads, as slice samplers, ``split_trajectories`` and value estimators write them."""


class RowMaskedLoss(LossModule):
    """A loss that leaves out masked rows. TorchRL's losses have :attr:`loss_mask_key` since 0.14 only."""

    _loss_mask_key: NestedKey | Literal["auto"] | None = "auto"

    @property
    def loss_mask_key(self) -> NestedKey | Literal["auto"] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The row mask, bool ``[*B]`` or ``[*B, 1]``, False in the rows that do not count: no agent is alive there.

        ``"auto"``: a row counts if it is True in each of :data:`AUTO_ROW_MASKS` that the data has. A key: this entry
        alone, which must exist. None: all rows count. An entry named ``"auto"`` is written ``("auto",)``.

        Raises:
            ValueError: when set to anything else.
        """
        return self._loss_mask_key

    @loss_mask_key.setter
    def loss_mask_key(self, value: NestedKey | Literal["auto"] | None) -> None:
        if value is not None and not _is_key(value):
            raise ValueError(f"loss_mask_key must be 'auto', None or the key of an entry; got {value!r}.")
        self._loss_mask_key = value
        self._in_keys = None

    @property
    def _required_row_masks(self) -> list[tuple[str, ...]]:
        """The row masks that the data must have."""
        return [as_path(self._loss_mask_key)] if self._loss_mask_key not in (None, "auto") else []

    @property
    def _optional_row_masks(self) -> list[tuple[str, ...]]:
        """The row masks that are read where the data has them."""
        return list(AUTO_ROW_MASKS) if self._loss_mask_key == "auto" else []

    def _read_row_mask(self, tensordict: TensorDictBase) -> Tensor | None:
        """The rows that count, bool ``[*B, 1]``; None if all do.

        Raises:
            KeyError: if the data lacks the named row mask.
            ValueError: if a mask does not have one entry per row.
        """
        rows: Tensor | None = None
        for key in (*self._required_row_masks, *self._optional_row_masks):
            mask = tensordict.get(key, None)
            if mask is None:
                if key in self._optional_row_masks:
                    continue
                raise KeyError(
                    f"loss_mask_key must name an entry of the data; got {self._loss_mask_key!r}, and the data has "
                    f"{present_keys(tensordict)}. Add it, or set loss_mask_key to 'auto' or None."
                )
            one_a_row = _one_a_row(mask, tensordict, key)
            rows = one_a_row if rows is None else rows & one_a_row
        return rows


def _one_a_row(mask: Tensor, tensordict: TensorDictBase, key: tuple[str, ...]) -> Tensor:
    batch_size = tensordict.batch_size
    if mask.shape[: len(batch_size)] != batch_size or mask.numel() != batch_size.numel():
        raise ValueError(
            f"the row mask at {key!r} must have shape {list(batch_size)} or {[*batch_size, 1]}, one entry per row; "
            f"got {list(mask.shape)}. An agent mask is named with set_keys(agent_mask=...); loss_mask_key = None reads "
            "no row mask."
        )
    return mask.bool().reshape(*batch_size, 1)


def _is_key(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_key, value))
    return isinstance(value, str)
