"""
Code blocks of Markdown pages. A comment in the line before a block says how it is tested; readers do not see it:

    <!-- test: skip: why -->          it is not run; its syntax is checked all the same
    <!-- test: without: a, b -->      lines that contain one of these texts are left out
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
"""All pages of the site, and what GitHub shows"""

_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<comment>.*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    skipped: str | None
    """Why it is not run"""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """:return: The code blocks of a page, those of Sphinx's directives left out"""
    source = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(source):
        language, text, comment = match["language"].strip(), match["text"], match["comment"] or ""
        if language.startswith("{"):
            continue
        kind, _, rest = comment.partition(": ")
        if kind == "without":
            words = rest.split(", ")
            text = "".join(line for line in joined(text).splitlines(True) if not any(word in line for word in words))
        elif kind not in ("", "skip"):
            raise ValueError(f"{page}: found the comment {comment!r}, expected 'skip: ...' or 'without: ...'")
        line = source[: match.start("text")].count("\n") + 1
        yield Block(page, line, language, text, rest if kind == "skip" else None)


def joined(text: str) -> str:
    """:return: A shell script without line continuations"""
    return re.sub(r" *\\\n *", " ", text)
