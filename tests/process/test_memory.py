"""Free memory."""

import pytest

from masac.errors import ConfigError
from masac.process.memory import check_buffer_fits


def test_a_buffer_that_cannot_fit_is_refused_with_the_numbers():
    rows = 10**12
    with pytest.raises(ConfigError, match=r"1,000,000,000,000 rows of 100 bytes take 90.9 TiB, and .* free on cpu"):
        check_buffer_fits(rows, 100, "cpu")
    check_buffer_fits(1000, 100, "cpu")
