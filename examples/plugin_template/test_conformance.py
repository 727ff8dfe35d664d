"""The exam every backbone sits."""

from __future__ import annotations

import pytest
from modelworks_colour import ColourSource

from modelworks.testing import backbone_suite


@pytest.mark.parametrize("check", backbone_suite.CHECKS)
def test_conformance(check: backbone_suite.Check) -> None:
    backbone_suite.run(check, ColourSource())
