"""A scenario that fails in one process of several."""

import os

from tests.envs import own_scenario


class Scenario(own_scenario.Scenario):
    steps = 0

    def done(self):
        self.steps += 1
        if self.steps > 60 and os.environ.get("RANK") == "1":
            raise ZeroDivisionError("the scenario of rank 1 fails")
        return super().done()
