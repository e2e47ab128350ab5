"""The settings of a process that trains."""

from multiprocessing.process import current_process

import pytest

from masac.errors import ConfigError
from masac.process.preparation import prepare_process


def test_a_script_that_a_process_of_its_own_imports_does_not_train_again(monkeypatch):
    monkeypatch.setattr(current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="must train below if __name__ == '__main__':"):
        prepare_process()
