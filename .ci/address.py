"""Says where the repository is, or sets it: the one address in ``pyproject.toml``.

python .ci/address.py                          # fails while it is one that nobody can own
python .ci/address.py https://github.com/OWNER/flain
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_SECTION = re.compile(r"^\[project\.urls\]\n(?:.+\n)+", re.MULTILINE)


def address(text: str) -> str:
    """Return the address that every URL of the project begins with.

    Raises:
        ValueError: One of them has another.
    """
    section = _SECTION.search(text)
    lines = section[0] if section else ""
    urls: dict[str, str] = dict(re.findall(r'^(\w+) = "(.+)"$', lines, re.MULTILINE))
    root = urls.get("Repository")
    if root is None or not all(url.startswith(root) for url in urls.values()):
        raise ValueError(f"expected URLs that begin with that of the Repository; got {urls}")
    return root


def moved(text: str, to: str) -> str:
    """Return ``pyproject.toml`` with another address."""
    old, new = address(text), to.rstrip("/")
    return _SECTION.sub(lambda section: section[0].replace(old, new), text)


def main(arguments: list[str]) -> None:
    """Check the address, or set it."""
    text = PROJECT.read_text(encoding="utf-8")
    if arguments:
        PROJECT.write_text(moved(text, arguments[0]), encoding="utf-8")
    elif address(text).endswith(".example"):
        sys.exit(
            "the package does not say where its repository is: "
            "python .ci/address.py https://github.com/OWNER/flain"
        )
    else:
        print(address(text))


if __name__ == "__main__":
    main(sys.argv[1:])
