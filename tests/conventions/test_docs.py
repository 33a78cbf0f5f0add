"""The documents say what is true: links resolve, commands parse, the schema's tables are the schema."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from aign.data.schema import KEY_TYPES, TABLES, Column
from aign.framework.errors import UserError
from aign.recipes import recipe
from pipelines.cli import VERBS
from pipelines.tune_folder import Found

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "infra/README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|')((?:[A-Z_]+=\S+ )*aign [^'\n]*)", re.MULTILINE)
MENTION = re.compile(r"`(aign [^`\n]*)`")


def prose(path: Path) -> str:
    """Without HTML comments; long commands that were broken with a backslash are joined."""
    return re.sub(r"<!--.*?-->", "", path.read_text().replace("\\\n", " "), flags=re.DOTALL)


def links() -> Iterator[tuple[Path, str]]:
    for path in DOCUMENTS:
        yield from ((path, target) for target in LINK.findall(prose(path)))


def commands() -> Iterator[tuple[str, str]]:
    """What a reader may paste: in code blocks."""
    for path in DOCUMENTS:
        for block in FENCE.findall(prose(path)):
            yield from ((path.name, text.strip()) for text in COMMAND.findall(block))


def mentions() -> Iterator[tuple[str, str]]:
    """Commands named in a sentence, perhaps without their arguments."""
    for path in DOCUMENTS:
        yield from ((path.name, text) for text in MENTION.findall(FENCE.sub("", prose(path))))


def test_documents_are_found():
    assert {"README.md", "CONTRIBUTING.md", "design.md", "data-store.md"} <= {path.name for path in DOCUMENTS}
    assert len(list(links())) > 20
    assert len(list(commands())) > 10
    assert len(list(mentions())) > 10


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document_is_plain_text(path):
    assert path.read_text().isascii()


@pytest.mark.parametrize(("path", "target"), sorted(set(links())), ids=lambda x: str(x).removeprefix(f"{ROOT}/"))
def test_link_resolves(path, target):
    place, _, anchor = target.partition("#")
    if "://" in place:
        pytest.skip("not ours")
    file = (path.parent / place) if place else path
    assert file.exists(), f"{path.name} links to {target}"
    if anchor:
        titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles}


def words(text: str) -> list[str]:
    """Arguments of a command as a shell would split them, without its environment and comment."""
    found = shlex.split(text, comments=True)
    while "=" in found[0]:
        found = found[1:]
    return found


def check(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring a command through the real parser; what it would do is not done."""
    program, *rest = words(text)
    assert program == "aign"
    if not rest or rest[0] in ("--help", "...", "VERB"):
        return
    verb, *arguments = rest
    assert verb in VERBS, f"no such command: {text}"
    if arguments and arguments[-1] != "..." and "|" not in arguments[0]:
        with pytest.raises(StoppedError):
            parse(verb, arguments, monkeypatch)


@pytest.mark.parametrize(("document", "text"), sorted(set(commands())))
def test_command_parses(document, text, monkeypatch):
    check(text, monkeypatch)


@pytest.mark.parametrize(("document", "text"), sorted(set(mentions())))
def test_mentioned_command_is_one(document, text, monkeypatch):
    try:
        check(text, monkeypatch)
    except UserError as error:
        if not str(error).startswith("Missing from"):
            raise


class StoppedError(Exception):
    """The arguments were taken; nothing was run."""


def parse(verb: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a verb's main up to the moment where it has its arguments."""
    import tyro

    real_cli, real_subcommands = tyro.cli, tyro.extras.subcommand_cli_from_dict

    def cli(*args, **kwargs):
        real_cli(*args, **kwargs)
        raise StoppedError

    def subcommands(verbs, **kwargs):
        real_subcommands({name: inert(call) for name, call in verbs.items()}, **kwargs)
        raise StoppedError

    monkeypatch.setattr("pipelines.train.find_trial", lambda _, name: Found(recipe=recipe(name), label="trial003"))
    monkeypatch.setattr(tyro, "cli", cli)
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", subcommands)
    try:
        importlib.import_module(VERBS[verb][0]).main(arguments)
    except SystemExit as stop:
        raise StoppedError from stop if stop.code in (0, None) else None


def inert(call):
    """The same signature, without effect."""
    import functools

    @functools.wraps(call)
    def nothing(*args, **kwargs):
        return None

    return nothing


@pytest.mark.parametrize(
    "text",
    [
        "aign preprocess demo-motions --stor stores/motion",
        "aign train lifting-dem --store s",
        "aign train lifting-demo --store s --task.weights.posse 0.3",
        "aign models promot lifting 3",
        "aign capture",
    ],
)
def test_a_wrong_command_would_be_found(text, monkeypatch):
    _, verb, *arguments = words(text)
    with pytest.raises((UserError, SystemExit)):
        parse(verb, arguments, monkeypatch)


def schema_tables() -> str:
    """The tables of docs/data-store.md."""
    key = "; ".join(f"`{name}` {kind}" for name, kind in KEY_TYPES.items())
    lines = [f"Key columns of every table: {key}. `camera` is empty where no camera took part.", ""]
    for name, table in TABLES.items():
        note = "" if table.has_camera else " (no camera)"
        lines += [
            f"**`{name}`**{note}",
            "",
            "| column | one item per | shape | type | checked |",
            "|:--|:--|:--|:--|:--|",
        ]
        lines += [f"| `{column}` | {what.per} | {shape(what)} | {what.dtype} | {checks(what)} |"
                  for column, what in table.columns.items()]  # fmt: skip
        lines.append("")
    return "\n".join(lines).strip()


def shape(column: Column) -> str:
    return f"[{', '.join(map(str, column.shape))}]" if column.shape else "-"


def checks(column: Column) -> str:
    named = [check.__name__.replace("_", " ") for check in column.number_checks + column.checks]
    return ", ".join(named) + (f" where `{column.valid_by}`" if column.valid_by else "") if named else "-"


def test_schema_tables_are_the_schema():
    text = (ROOT / "docs/data-store.md").read_text()
    found = re.search(r"<!-- schema:begin -->\n(.*?)\n?<!-- schema:end -->", text, re.DOTALL)
    assert found is not None
    assert found[1].strip() == schema_tables(), "docs/data-store.md is out of date; it should hold:\n" + schema_tables()


def test_readme_leaves_the_demo_its_place():
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- demo:begin -->") == text.count("<!-- demo:end -->") == 1
    assert text.index("<!-- demo:begin -->") < text.index("<!-- demo:end -->")
    assert "docs/images/demo.png" in text


def literals() -> str:
    """Every text in the code, the pieces between values of an f-string apart from one another."""
    found = []
    for folder in ("aign", "pipelines", "infra"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text()))
            found += [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(found)


def quoted() -> list[str]:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 40
    return rows


@pytest.fixture(scope="module")
def texts() -> str:
    return literals()


@pytest.mark.parametrize("message", quoted())
def test_a_message_of_the_troubleshooting_page_is_one_of_the_code(message, texts):
    pieces = [piece for piece in message.split("...") if len(piece.strip()) > 2]
    assert pieces
    assert [piece for piece in pieces if piece not in texts] == []
