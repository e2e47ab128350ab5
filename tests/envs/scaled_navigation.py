"""VMAS navigation with rewards eight times as large."""

from vmas.scenarios import navigation


class Scenario(navigation.Scenario):
    """See the module."""

    def reward(self, agent):
        """Of one agent, ``[environments]``."""
        return 8 * super().reward(agent)
