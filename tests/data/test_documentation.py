"""The page about tasks shows manifests that are valid."""

import re

import pytest
import yaml

from wtsbench.settings import shipped
from wtsbench.spec.task import TaskManifest

PAGE = shipped("manifests").parent / "docs" / "tasks.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not installed with the package")
def test_examples_are_valid() -> None:
    """Every YAML example of the page is a whole task manifest, of both forms."""
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    forms = {TaskManifest.model_validate(yaml.safe_load(example)).form for example in examples}
    assert forms == {"classification", "generation"}
