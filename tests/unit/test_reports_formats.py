"""Which report a name asks for, and what is said when it cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_siren.reports.formats import HTML, MARKDOWN, SARIF, ReportError, Target
from tests.unit.reports_sample import data, run


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x.md", MARKDOWN),
        ("deep/X.MD", MARKDOWN),
        ("x.sarif", SARIF),
        ("x.sarif.json", SARIF),
        ("x.html", HTML),
        ("folder/", HTML),
        ("v1.2/", HTML),
        ("report", HTML),
        ("there.d", HTML),
    ],
)
def test_the_name_decides_the_kind(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "there.d").mkdir()
    target = Target.of(text, tmp_path)
    assert target.format == kind
    assert target.path == tmp_path / text


@pytest.mark.parametrize("text", ["x.txt", "x.json", "x.md.bak"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, text: str) -> None:
    with pytest.raises(ReportError, match=r"x\.\S+: no report is made .* known are \.html, \.md"):
        Target.of(text, tmp_path)


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="the name of the report is empty"):
        Target.of("", tmp_path)


@pytest.mark.parametrize("name", ["x.md", "x.sarif"])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    target = Target.of(f"file/{name}", tmp_path)
    with pytest.raises(
        ReportError, match=rf"/file/{name}: the folder \S+/file .* \S+/file is a file$"
    ):
        target.write(data([run()]))


def test_nothing_is_left_of_a_report_that_cannot_take_its_place(tmp_path: Path) -> None:
    target = Target.of("x.md", tmp_path)
    target.write(data([run()]))
    target.write(data([run()]))
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]
