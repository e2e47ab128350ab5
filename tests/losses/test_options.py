"""The arguments of the losses are declared and explained once."""

import inspect

import pytest

from masac import GroupDiscreteSACLoss, GroupLossOptions, GroupSACLoss
from masac.docstrings import argument_texts
from masac.losses.options import TorchRLOptions
from masac.losses.torchrl_loss import GroupLossModule

DECLARED = GroupLossOptions.__annotations__.keys() - TorchRLOptions.__annotations__.keys()


def test_every_option_is_explained_with_its_default_and_type():
    parameters = inspect.signature(GroupLossModule.__init__).parameters
    options = {name: one for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    texts = argument_texts(GroupLossOptions.__doc__ or "")
    assert options.keys() == DECLARED == texts.keys()
    for name, one in options.items():
        default = f'"{one.default}"' if isinstance(one.default, str) else str(one.default)
        assert texts[name].replace("``", "").endswith(f"Default: {default}."), name
        assert GroupLossOptions.__annotations__[name].__forward_arg__ == one.annotation, name


@pytest.mark.parametrize("loss", [GroupSACLoss, GroupDiscreteSACLoss])
def test_a_loss_tells_all_its_arguments(loss):
    parameters = inspect.signature(loss).parameters
    assert parameters.keys() >= DECLARED
    assert parameters["alpha_init"].default == 1.0
    explained = argument_texts(loss.__doc__) | argument_texts(GroupLossOptions.__doc__ or "")
    assert parameters.keys() - {"torchrl"} <= explained.keys()


def test_a_subclass_with_arguments_of_its_own_tells_them():
    class Mine(GroupSACLoss):
        def __init__(self, *networks, bonus=1.0, gamma=0.5, **options):
            super().__init__(*networks, gamma=gamma, **options)

    parameters = inspect.signature(Mine).parameters
    assert (parameters["bonus"].default, parameters["gamma"].default, parameters["group"].default) == (1, 0.5, "agents")
