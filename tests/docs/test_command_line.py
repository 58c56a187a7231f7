"""docs/command-line.md says what the command says, and its examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flain_cli.exit_codes import MEANINGS
from flain_cli.reference import brought_up_to_date, reference
from flain_cli.run import ended_with

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines]


def test_the_page_is_made_from_the_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert brought_up_to_date(page) == page, (
        "python -m flain_cli.reference docs/command-line.md brings it up to date"
    )


def test_the_reference_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    told = reference()
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in told
    sections = dict(re.findall(r"^## flain (\w+)\n(.*?)(?=^## |\Z)", told, re.M | re.S))
    assert set(sections) == {"layers", "purify", "audit", "compare", "demo"}
    for name, section in sections.items():
        assert ended_with([name, "--help"]) == 0
        printed = capsys.readouterr().out
        rows = re.findall(r"^[│|][ *]{1,4}(--[a-z-]+)", printed, re.M)
        documented = re.findall(r"^- .*?`(--[a-z-]+)`", section, re.M)
        assert documented == [name for name in rows if name != "--help"]


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="made from the command: begin"):
        brought_up_to_date("# A page\n")


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    assert ended_with(["demo", "--save-to", "example"]) == 0
    typed = commands()
    assert len(typed) == 5
    for program, *words in typed:
        assert program == "flain"
        if words[1] == "final.onnx":
            monkeypatch.chdir(tmp_path / "example")
        code = ended_with(words)
        assert code == 0, (words, capsys.readouterr().err)
    assert (tmp_path / "report.json").exists()
    assert (tmp_path / "example" / "purified.onnx").exists()
