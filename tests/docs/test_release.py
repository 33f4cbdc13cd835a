"""What a release has to say in several places."""

import re

import yaml
from doc_blocks import ROOT

from benchmarks.sparse_suite.report import TABLES, with_tables


def test_the_version_is_the_same_everywhere() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version is not None
    assert newest is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert version[1] == newest[1] == citation["version"]
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()


def test_the_report_of_the_sparse_suite_finds_the_places_of_its_tables() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    filled = with_tables(page, {name: f"| new {name} |" for name in TABLES})
    assert filled.count("| new ") == len(TABLES)
