"""MySQL itself keeps what every product keeps: the contract's suites of writers and readers, over a MySQL server."""

from __future__ import annotations

import pytest
from contract.test_reader import *  # noqa: F403
from contract.test_writer import *  # noqa: F403

from tests.containers.conftest import skip_without_engine

skip_without_engine()
pytestmark = pytest.mark.containers
