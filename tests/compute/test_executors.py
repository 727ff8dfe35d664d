"""Both executors sit the same exam."""

from pathlib import Path

import pytest

from modelworks.compute.inline import InlineExecutor
from modelworks.compute.process import ProcessExecutor
from modelworks.testing import executor_suite


@pytest.mark.parametrize("check", executor_suite.ALWAYS, ids=lambda check: check.__name__)
def test_inline(check: executor_suite.Check, tmp_path: Path) -> None:
    assert executor_suite.run(check, InlineExecutor, tmp_path)


@pytest.mark.parametrize("check", executor_suite.CHECKS, ids=lambda check: check.__name__)
def test_process(check: executor_suite.Check, tmp_path: Path) -> None:
    assert executor_suite.run(check, lambda: ProcessExecutor(2), tmp_path)


def test_a_check_that_does_not_apply_is_said_so(tmp_path: Path) -> None:
    assert not executor_suite.run(executor_suite.survives_crashes, InlineExecutor, tmp_path)
