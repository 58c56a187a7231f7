"""Count what pyright complains of in each folder, and fail if it is more than is allowed there.

python .ci/complaints.py flain_core=0 backends=3
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def complaints(folders: list[str]) -> list[dict[str, Any]]:
    """Everything that pyright says of the folders, as it says it."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    ran = subprocess.run(
        [*command, *folders], check=False, cwd=ROOT, capture_output=True, text=True
    )
    if ran.returncode not in (0, 1):
        sys.exit(f"pyright did not run: {ran.stdout}{ran.stderr}")
    said = json.loads(ran.stdout)
    if not said["summary"]["filesAnalyzed"]:
        sys.exit(f"pyright found no file in {', '.join(folders)}")
    found: list[dict[str, Any]] = said["generalDiagnostics"]
    return found


def main(*limits: str) -> int:
    """Print each folder's number, and the complaints of those that have too many."""
    at_most = {
        folder: int(number) for folder, _, number in (each.partition("=") for each in limits)
    }
    if not at_most:
        sys.exit(__doc__)
    missing = [folder for folder in at_most if not (ROOT / folder).is_dir()]
    if missing:
        sys.exit(f"there is no folder {', '.join(missing)}")
    found = complaints([*at_most])
    in_folder = Counter(Path(each["file"]).relative_to(ROOT).parts[0] for each in found)
    too_many = [folder for folder, most in at_most.items() if in_folder[folder] > most]
    for each in found:
        path, start = Path(each["file"]).relative_to(ROOT), each["range"]["start"]
        if path.parts[0] in too_many:
            print(f"{path}:{start['line'] + 1}: {each['message']} ({each.get('rule')})")
    for folder, most in at_most.items():
        print(f"pyright, {folder}: {in_folder[folder]} complaints, at most {most} allowed")
    return bool(too_many)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
