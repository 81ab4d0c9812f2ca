"""Pages of the site that lie outside docs/, and links between all of them: a hook of mkdocs (``mkdocs.yml``).

The same files are read in the repository and on the site. README.md is the site's first page; the results of the
benchmarks, the instance library's pages, CONTRIBUTING.md and CHANGELOG.md keep their paths. Links are written for the
repository and rewritten here. Links to what is no page, such as source code, lose their link and keep their text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS, FRONT, FIRST = "docs/", "README.md", "index.md"
OUTSIDE = (
    FRONT,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "benchmarks/results/*.csv",
    "problems/library/*.md",
)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)


def site_path(path: str) -> str:
    """Where a file of the repository is on the site, both relative to their roots."""
    return FIRST if path == FRONT else path.removeprefix(DOCS)


def repository_path(path: str) -> str:
    """The file of the repository that is at a place on the site."""
    if path == FIRST:
        return FRONT
    return path if (ROOT / path).exists() and not (ROOT / DOCS / path).exists() else DOCS + path


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            own = site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, own, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository links of the site."""
    here = repository_path(page.file.src_uri)
    parts = _FENCE.split(markdown)
    parts[::2] = [_relinked(part, here, files) for part in parts[::2]]
    return "".join(parts)


def _relinked(text: str, here: str, files: Files) -> str:
    """A text without code blocks, with the links that it has on the site."""
    place = posixpath.dirname(site_path(here))

    def relinked(found: re.Match[str]) -> str:
        mark, title, target = found.groups()
        if target.startswith(("http:", "https:", "#", "mailto:")):
            return found[0]
        name, hash_, anchor = target.partition("#")
        own = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(here), name)))
        if files.get_file_from_path(own) is None:
            return _relinked(title, here, files)
        return f"{mark}[{_relinked(title, here, files)}]({posixpath.relpath(own, place or '.')}{hash_}{anchor})"

    return _LINK.sub(relinked, text)
