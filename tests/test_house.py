"""The house: who may import whom, what lies where, and how large things are."""

from __future__ import annotations

import ast
import io
import re
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from appliance.domain.errors import ERROR_CODES

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "appliance"
FILES = sorted(PACKAGE.rglob("*.py"))

#: room → the rooms it may import besides itself. An adapter is a room of its own: adapters do not import each other.
LAYERS: dict[str, set[str]] = {
    "domain": set(),
    "yaml_file": {"domain"},
    "config": {"domain", "yaml_file"},
    "log": {"domain"},
    "adapters": {"domain"},
    "streams": {"domain"},
    "encoder": {"domain", "adapters", "streams", "config", "log"},
    "supervisor": {"domain", "adapters", "streams", "config", "log"},
    "wiring": {"domain", "adapters", "streams", "config", "log", "encoder", "supervisor"},
    "local": {"domain", "adapters"},
    "cli": {"domain", "adapters", "streams", "config", "log", "encoder", "supervisor", "wiring", "local"},
    "__main__": {"domain", "config", "log", "cli"},
    "__init__": set(),
}
#: What a newcomer finds at the top; files whose names begin with a dot lie there too.
AT_THE_TOP = {
    "appliance",
    "config",
    "systemd",
    "tests",
    "pyproject.toml",
    "install.sh",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
}
#: Nine functions of ten fit on this many lines, in the code that engineers praise; none is longer than the other.
USUAL_LINES, LONGEST_LINES = 29, 60
LONGEST_FILE_LINES = 400
#: Lines of code, without blanks, comments and docstrings. A new room (DASH, verify, the cage, helping) may raise it,
#: nothing else (the next: host, command line, fleet). Before adding, look for what means it already.
PACKAGE_LINES = 15_500
#: Codes that end a process or a job and never stand in a row.
NOT_IN_THE_ROW = {"configuration", "unreadable_message", "lease_lost", "draining", "no_room"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def room(name: str) -> str:
    """`appliance.adapters.s3` → `adapters.s3`, `appliance.encoder.job` → `encoder`."""
    parts = name.split(".")[1:]
    if not parts:
        return "__init__"
    return ".".join(parts[:2]) if parts[0] == "adapters" else parts[0]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that the file imports, also those imported late."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (TOP / name.replace(".", "/")).with_suffix(".py").exists() or (
                    TOP / name.replace(".", "/")
                ).is_dir()
                yield name if is_module else str(node.module)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


def lines(function: ast.FunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_room_imports_only_what_its_layer_may(path: Path) -> None:
    here = room(module(path))
    allowed = LAYERS[here.split(".")[0]]
    for name in imports(path):
        there = room(name) if name.split(".")[0] == "appliance" else None
        if there in (None, "__init__", here):
            continue
        assert there.split(".")[0] in allowed, f"{module(path)} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "domain").glob("*.py")), ids=module)
def test_the_domain_imports_the_standard_library_alone(path: Path) -> None:
    foreign = {name for name in imports(path) if name.split(".")[0] not in {*sys.stdlib_module_names, "appliance"}}
    assert not foreign


def test_every_room_has_a_layer() -> None:
    assert {room(module(path)).split(".")[0] for path in FILES} == set(LAYERS)


def loaded_by(entry: str) -> set[str]:
    """Every module in a fresh process after the import of `entry`; it must start no thread and open nothing."""
    program = (
        f"import sys, threading, os; before = len(os.listdir('/proc/self/fd')); import {entry};"
        "assert threading.active_count() == 1, 'a thread was started at import';"
        "assert len(os.listdir('/proc/self/fd')) == before, 'something was opened at import';"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_an_encoder_process_never_imports_supervisor_web_page_or_terminal() -> None:
    modules = loaded_by("appliance.wiring.encoder")
    strangers = ("appliance.supervisor", "appliance.cli", "appliance.local")
    assert not {name for name in modules if name.startswith(strangers)}
    ours = [path for path in FILES if module(path) in modules]
    assert ours
    strangers = ("rich", "http", "prometheus_client")
    assert not {name for path in ours for name in imports(path) if name.split(".")[0] in strangers}


@pytest.mark.parametrize("entry", ["appliance.cli.run", "appliance.wiring.preload"])
def test_nothing_of_the_service_loads_what_draws_tables(entry: str) -> None:
    """structlog would, because it is there."""
    assert not {name for name in loaded_by(entry) if name.split(".")[0] in ("rich", "pygments")}


def test_the_supervisor_imports_no_encoder_and_nothing_embedded() -> None:
    modules = loaded_by("appliance.wiring.supervisor")
    assert not {name for name in modules if name.startswith(("appliance.encoder", "appliance.local", "appliance.cli"))}


def test_the_top_of_the_repository_is_as_announced() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} <= AT_THE_TOP


def test_most_functions_are_short_and_none_is_long() -> None:
    sizes = {f"{module(path)}.{function.name}": lines(function) for path in FILES for function in functions(path)}
    assert {name: size for name, size in sizes.items() if size > LONGEST_LINES} == {}
    assert statistics.quantiles(sizes.values(), n=10)[-1] <= USUAL_LINES


def test_no_file_is_long() -> None:
    sizes = {module(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE_LINES} == {}


def test_the_package_is_small() -> None:
    assert sum(len(code_lines(path)) for path in FILES) < PACKAGE_LINES


def code_lines(path: Path) -> set[int]:
    source = path.read_text()
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spoken = {line for token in tokens if token.type not in silent for line in range(token.start[0], token.end[0] + 1)}
    return spoken - {line for node in docstrings(path) for line in range(node.lineno, (node.end_lineno or 0) + 1)}


def docstrings(path: Path) -> Iterator[ast.Constant]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            statement = node.body[0]
            assert isinstance(statement, ast.Expr)
            assert isinstance(statement.value, ast.Constant)
            yield statement.value


#: What users write: it names nothing of ours, neither a key in S3 nor a file here (F47).
WRITTEN_BY_USERS = {"file_key", "tenant_code"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_f47_no_key_and_no_path_is_made_from_what_users_write(path: Path) -> None:
    made = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.JoinedStr)
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in ("join", "Path", "joinpath", "format")
        )
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add | ast.Mod))
    ]
    names = {
        getattr(part, "attr", getattr(part, "id", "")): ast.unparse(node)
        for node in made
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute | ast.Name)
    }
    assert {name: code for name, code in names.items() if name in WRITTEN_BY_USERS} == {}


SQL = re.compile(
    r"\b(select\s.+\sfrom\s|select\s+\d|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|merge\s+into\s"
    r"|(create|alter|drop)\s+(table|index|schema|type|database|role)\s|truncate\s)",
    re.IGNORECASE | re.DOTALL,
)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_sql_lies_in_sql_files(path: Path) -> None:
    documentation = {id(node) for node in docstrings(path)}
    texts = [
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]
    assert [text for text in texts if SQL.search(text)] == []


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_sleeps_longer_than_a_blink_because_a_sleeper_does_not_hear_that_it_should_stop(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    sleeps = [call for call in calls if ast.unparse(call.func) in ("time.sleep", "sleep")]
    assert [ast.unparse(call) for call in sleeps if float(ast.unparse(call.args[0])) > 0.01] == []


def error_codes(path: Path) -> Iterator[str]:
    """Every literal that is given as `code`, or stands as the `code` of an error class."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            values = [keyword.value for keyword in node.keywords if keyword.arg in ("code", "error_code")]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            values = [node.value] if any(ast.unparse(target) == "code" for target in targets) else []
        else:
            continue
        yield from (value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str))


def test_every_error_code_that_is_used_is_documented() -> None:
    # What the command line tells its user ends in no row.
    used = {code: module(path) for path in FILES if room(module(path)) != "cli" for code in error_codes(path)}
    assert {code: where for code, where in used.items() if code not in ERROR_CODES and code not in NOT_IN_THE_ROW} == {}
    assert "source_missing" in used, "the search finds codes"


def test_every_documented_error_code_is_used_and_says_a_whole_sentence() -> None:
    elsewhere = "\n".join(
        path.read_text()
        for path in sorted(PACKAGE.rglob("*.*"))
        if path.suffix in (".py", ".sql") and path.name != "errors.py"
    )
    own = set(error_codes(PACKAGE / "domain/errors.py"))
    unused = {
        code
        for code in ERROR_CODES
        if f'"{code}"' not in elsewhere and f"'{code}'" not in elsewhere and code not in own
    }
    assert unused == set()
    assert [sentence for sentence in ERROR_CODES.values() if not re.fullmatch(r"[A-Z].*\.", sentence)] == []


def test_locked_requirements_name_no_address_and_pin_every_package_by_hash() -> None:
    for path in sorted((TOP / "config/requirements").glob("*.txt")):
        entries = path.read_text().replace("\\\n", " ").splitlines()
        assert entries
        assert [
            entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry or "://" in entry
        ] == []
