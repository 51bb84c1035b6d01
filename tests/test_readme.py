"""What the README says is so: its commands parse, its files exist, none is missing, its numbers are short."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from tuning import errors, options

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("python -m tuning.launch")]


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) < 150


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_parse(command: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    args = options.parse([*shlex.split(command)[3:], *(() if "--resume" in command else ("--name", "x"))])
    if args.resume:
        return
    with contextlib.chdir(tmp_path):
        spec, _ = options.request(args)
    assert len(spec.architectures) == len(args.model or [args.space])


def test_it_shows_several_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("package", ["tuning", "models", "datasets", "search_spaces", "cluster", "benchmarks"])
def test_its_file_tree_is_that_of_the_repository(package: str) -> None:
    tree = TEXT.split("## Files")[1].split("```")[1]
    lines = tree.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{package}/"))
    block = [lines[start]]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        block.append(line)
    # the name comes first on a line, or in a list of names; descriptions may mention other files
    named = {
        name
        for line in block
        for name in re.findall(r"^(?:\w+/)?\s*(\w+\.py)|, (\w+\.py)", line)
        for name in name
        if name
    }
    there = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    assert named == there


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_its_exit_codes_are_those_of_the_errors() -> None:
    codes = {
        cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.StudyError)
    }
    assert codes == {1, 5, 6, 7}
    for code in codes:
        assert re.search(rf"[ ;]{code} [a-z]", TEXT.split("Exit codes:")[1])
