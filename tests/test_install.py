"""install.sh and .ci/run, in a copy of the checkout and under another root; only the download of packages is played."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance import __version__

TOP = Path(__file__).parents[1]
#: An environment as make_venv leaves it, but empty. Counts how often it was made.
PLAYED = r"""
make_venv() {
  echo made >>"$top/made"
  mkdir -p "$2/bin" "$2/lib/python3.x/site-packages"
  ln -sfn "$(command -v python3)" "$2/bin/python"
}
"""


class Checkout:
    """A copy of what install.sh reads, with a root to install under."""

    def __init__(self, directory: Path) -> None:
        self.top, self.root = directory / "checkout", directory / "root"
        self.top.mkdir()
        for name in ("install.sh", "config", "systemd", "appliance"):
            source = TOP / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, self.top / name, ignore=ignored) if source.is_dir() else shutil.copy(
                source, self.top
            )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._bash(["./install.sh", *arguments], environment)

    def call(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Functions of install.sh, one by one, with `make_venv` played."""
        return self._bash(["bash", "-c", f"source ./install.sh; {PLAYED}\n{script}"], environment)

    def _bash(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "DESTDIR": str(self.root), **environment}
        return subprocess.run(command, cwd=self.top, env=variables, capture_output=True, text=True, check=False)

    def installed(self) -> set[str]:
        """Every file and link under the root, without those of the package and of its environment."""
        found = {
            str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink()
        }
        return {name for name in found if not re.search(r"/(appliance|venv)/", name)}

    @property
    def made(self) -> int:
        return len((self.top / "made").read_text().splitlines())


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


RELEASE = f"opt/video-appliance/releases/{__version__}"
SERVICE = {
    "etc/systemd/system/video-appliance.service",
    "etc/sysusers.d/video-appliance.conf",
    "etc/tmpfiles.d/video-appliance.conf",
    "opt/video-appliance/current",
    "usr/local/bin/video-appliance",
    f"{RELEASE}/.complete",
    f"{RELEASE}/video-appliance",
    f"{RELEASE}/video-appliance.yaml",
    f"{RELEASE}/video-appliance.schema.json",
    *(f"{RELEASE}/config/autoscaling/{path.name}" for path in (TOP / "config/autoscaling").iterdir()),
    *(f"{RELEASE}/systemd/video-appliance.{kind}" for kind in ("service", "sysusers.conf", "tmpfiles.conf")),
}
CONFIGURATION = "etc/video-appliance.yaml"


def test_an_installation_is_a_release_a_link_a_unit_and_a_configuration(checkout: Checkout) -> None:
    done = checkout.call("install_service")
    assert done.returncode == 0, done.stderr
    assert checkout.installed() == SERVICE | {CONFIGURATION}
    assert (checkout.root / "opt/video-appliance/current").readlink() == Path(f"releases/{__version__}")
    assert (checkout.root / "usr/local/bin/video-appliance").readlink() == Path(
        "/opt/video-appliance/current/video-appliance"
    )
    path_file = checkout.root / RELEASE / "venv/lib/python3.x/site-packages/video-appliance.pth"
    assert path_file.read_text() == f"/{RELEASE}\n"
    assert "systemctl enable --now video-appliance" in done.stderr


def test_a_second_installation_says_no_changes_and_makes_none(checkout: Checkout) -> None:
    checkout.call("install_service")
    before = checkout.installed()
    again = checkout.call("install_service")
    assert (again.returncode, again.stderr) == (0, "no changes\n")
    assert (checkout.installed(), checkout.made) == (before, 1)


def test_a_configuration_that_is_there_is_never_overwritten(checkout: Checkout) -> None:
    checkout.call("install_service")
    (checkout.root / CONFIGURATION).write_text("log: {level: debug}\n")
    (checkout.top / "config/video-appliance.yaml").write_text("log: {level: error}\n")
    (checkout.root / "usr/local/bin/video-appliance").unlink()
    assert checkout.call("install_service").returncode == 0
    assert (checkout.root / CONFIGURATION).read_text() == "log: {level: debug}\n"


def test_other_contents_of_the_same_version_lie_beside_the_release_that_may_be_running(checkout: Checkout) -> None:
    checkout.call("install_service")
    (checkout.top / "appliance/new.py").write_text("")
    assert checkout.call("install_service").returncode == 0
    current = (checkout.root / "opt/video-appliance/current").readlink()
    assert re.fullmatch(rf"releases/{re.escape(__version__)}\+[0-9a-f]{{12}}", str(current))
    assert (checkout.root / RELEASE / ".complete").exists()
    assert (checkout.root / "opt/video-appliance" / current / "appliance/new.py").exists()


def test_a_release_whose_making_was_interrupted_is_made_again(checkout: Checkout) -> None:
    checkout.call("make_venv() { return 1; }; install_service")
    assert not (checkout.root / RELEASE / ".complete").exists()
    assert not (checkout.root / "opt/video-appliance/current").exists()
    assert checkout.call("install_service").returncode == 0
    assert (checkout.root / RELEASE / ".complete").exists()


def test_a_dry_run_names_what_it_would_do_and_does_nothing(checkout: Checkout) -> None:
    done = checkout.run("--dry-run")
    assert done.returncode == 0, done.stderr
    for name in ("video-appliance.service", CONFIGURATION, f"releases/{__version__}", "make_venv"):
        assert name in done.stderr
    assert not checkout.root.exists()


def test_uninstalling_keeps_an_edited_configuration_and_purging_does_not(checkout: Checkout) -> None:
    checkout.call("install_service")
    (checkout.root / CONFIGURATION).write_text("log: {level: debug}\n")
    assert checkout.run("--uninstall").returncode == 0
    assert checkout.installed() == {CONFIGURATION}
    assert checkout.run("--purge").returncode == 0
    assert checkout.installed() == set()


def test_uninstalling_what_nobody_edited_leaves_nothing(checkout: Checkout) -> None:
    checkout.call("install_service")
    assert checkout.run("--uninstall").returncode == 0
    assert checkout.installed() == set()


def test_a_rollback_goes_to_the_release_before_and_back_again(checkout: Checkout) -> None:
    current = checkout.root / "opt/video-appliance/current"
    assert "no release before" in checkout.run("--rollback").stderr
    checkout.call("install_service")
    first = current.readlink()
    with (checkout.top / "systemd/video-appliance.service").open("a") as unit:
        unit.write("# another\n")
    checkout.call("install_service")
    second = current.readlink()
    assert second != first
    for expected, edited in ((first, False), (second, True)):
        assert checkout.run("--rollback").returncode == 0
        assert current.readlink() == expected
        assert ("# another" in (checkout.root / "etc/systemd/system/video-appliance.service").read_text()) is edited


def test_only_the_release_before_is_kept(checkout: Checkout) -> None:
    for number in range(3):
        (checkout.top / f"appliance/number_{number}.py").touch()
        checkout.call("install_service")
    releases = checkout.root / "opt/video-appliance/releases"
    named = {
        checkout.root / "opt/video-appliance" / (releases.parent / name).readlink() for name in ("current", "previous")
    }
    assert set(releases.iterdir()) == named
    assert len(named) == 2


def test_the_environment_of_the_release_before_is_copied_while_its_lock_is_the_same(checkout: Checkout) -> None:
    checkout.call("install_service")
    (checkout.top / "appliance/new.py").touch()
    checkout.call("install_service")
    assert checkout.made == 1
    with (checkout.top / "config/requirements/run.txt").open("a") as lock:
        lock.write("\n")
    checkout.call("install_service")
    assert checkout.made == 2


def test_a_disk_without_room_is_a_sentence_and_nothing_changed(checkout: Checkout) -> None:
    done = checkout.call("df() { printf 'head\\nx 1 1 1024 1%% /\\n'; }; install_service")
    assert done.returncode == 1
    assert re.search(r"needs 800 MiB under .*, and 1 MiB are free there", done.stderr)
    assert not checkout.root.exists()


def test_without_systemd_it_refuses_before_it_looks_at_anything_else(checkout: Checkout) -> None:
    script = "has_systemd() { false; }; id() { echo 0; }; find_system_python() { exit 9; }; main"
    done = checkout.call(script, DESTDIR="")
    assert done.returncode == 1
    assert re.fullmatch(r"install.sh: this machine was not booted with systemd.*\n", done.stderr)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("debian", "apt-get install python3 python3-venv"),
        ("amzn fedora", "dnf install python3.11"),
        ("void", "own packages"),
    ],
)
def test_what_is_missing_is_asked_of_the_distribution_in_its_own_words(
    checkout: Checkout, family: str, expected: str
) -> None:
    done = checkout.call("find_python false", OS_FAMILY=family)
    assert done.returncode == 1
    assert expected in done.stderr


def test_offline_takes_the_packages_from_the_directory_and_from_nowhere_else(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "python").write_text(
        '#!/bin/sh\n[ "$2" != venv ] || { mkdir -p $3/bin && cp $0 $3/bin; }\necho "$@" >&2\n'
    )
    (tmp_path / "python").chmod(0o755)
    for wheels, expected in (("", False), (str(tmp_path), True)):
        script = f"source ./install.sh; wheels={wheels}; make_venv {tmp_path}/python {tmp_path}/made lock"
        done = checkout._bash(["bash", "-c", script], {})
        assert "install -qq" in done.stderr
        assert (f"--no-index --find-links {tmp_path} " in done.stderr) is expected


def test_an_interpreter_under_a_home_directory_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho /home/somebody/.pyenv/bin/python3.12\n")
    python.chmod(0o755)
    done = checkout.call(f"find_python() {{ echo {python}; }}; install_service")
    assert done.returncode == 1
    assert "/home/somebody/.pyenv/bin/python3.12 lies under a home directory" in done.stderr
    assert not checkout.root.exists()


def test_without_a_new_enough_python_one_sentence_says_how_to_get_it(checkout: Checkout) -> None:
    done = checkout.call("find_python false no-such-python")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs Python 3.11 or newer" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_installing_without_root_is_refused(checkout: Checkout) -> None:
    # Were it not refused, the search for a python would end it before anything is touched.
    script = "id() { echo 1000; }; find_system_python() { exit 9; }; main"
    done = checkout.call(script, DESTDIR="")
    assert done.returncode == 2
    assert "sudo ./install.sh" in done.stderr


def test_an_environment_is_made_once_and_again_when_its_lock_changes(checkout: Checkout) -> None:
    assert checkout.call("ensure_environment demo").returncode == 0
    assert checkout.call("ensure_environment demo").returncode == 0
    assert checkout.made == 1
    with (checkout.top / "config/requirements/demo.txt").open("a") as lock:
        lock.write("\n")
    checkout.call("ensure_environment demo")
    assert checkout.made == 2


def test_the_environment_of_the_tests_serves_the_demo_too_but_not_the_other_way_round(checkout: Checkout) -> None:
    checkout.call("ensure_environment demo")
    checkout.call("ensure_environment test")
    assert checkout.made == 2
    checkout.call("ensure_environment demo")
    assert checkout.made == 2


@pytest.mark.parametrize("arguments", [("--bogus",), ("bench",), ("bench", "no_such"), ("bench", "../../evil")])
def test_what_it_does_not_know_is_a_usage_error(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    done = checkout.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("install.sh: ")


KNOWN = '{"name": "a", "version": "1", "vulns": []}'
VULNERABLE = '{"name": "b", "version": "1", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2"]}]}'
SKIPPED = '{"name": "c", "skip_reason": "Dependency not found"}'


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ([[KNOWN], [KNOWN, KNOWN]], 0, "2 packages, no known vulnerability"),
        ([[KNOWN], [KNOWN, VULNERABLE]], 1, "b 1: PYSEC-2026-1, fixed in 2"),
        ([[VULNERABLE], [SKIPPED]], 1, "NOT AUDITED"),
        ([[KNOWN, SKIPPED], [KNOWN]], 69, "knows nothing of 1 of 2 packages (c"),
        ([[KNOWN], []], 69, "knows nothing of 0 of 0 packages"),
        ([[KNOWN], None], 69, "cannot be reached: Failed to resolve"),
    ],
)
def test_an_audit_is_clean_only_when_the_service_answered_for_every_package(
    checkout: Checkout, answers: list[list[str] | None], status: int, said: str
) -> None:
    """pip-audit, which is played here, ends with 0 for packages that nobody could look up."""
    for path in (checkout.top / "config/requirements").iterdir():
        path.unlink()
    for number, packages in enumerate(answers):
        (checkout.top / f"config/requirements/{number}.txt").touch()
        if packages is not None:
            (checkout.top / f"{number}.json").write_text(f'{{"dependencies": [{", ".join(packages)}]}}')
    script = r"""
      make_venv() { mkdir -p "$2/bin"; played >"$2/bin/pip-audit"; chmod +x "$2/bin/pip-audit"; }
      played() { cat <<'SH'
#!/bin/bash
while [ "$#" -gt 0 ]; do case $1 in --output) out=$2 ;; -r) set=$2 ;; esac; shift; done
cp "$(basename "$set" .txt).json" "$out" 2>/dev/null || echo "Failed to resolve a host" >&2
SH
      }
      main audit"""
    done = checkout.call(script)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr


def test_help_names_every_verb(checkout: Checkout) -> None:
    done = checkout.run("--help")
    assert done.returncode == 0
    assert all(
        verb in done.stdout for verb in ("demo", "test", "bench", "audit", "--dry-run", "--uninstall", "--purge")
    )


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [("CORPUS_DIR is not set", 0, 0), ("no chromium here", 0, 1), ("CORPUS_DIR is not set", 3, 3)],
)
def test_the_build_server_fails_on_a_failure_and_on_an_unexpected_skip(
    tmp_path: Path, reason: str, status: int, expected: int
) -> None:
    shutil.copytree(TOP / ".ci", tmp_path / ".ci")
    install = tmp_path / "install.sh"
    install.write_text(f"#!/bin/sh\necho 'SKIPPED [2] tests/test_x.py:7: {reason}'\nexit {status}\n")
    install.chmod(0o755)
    done = subprocess.run([tmp_path / ".ci/run"], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == expected
    assert (reason in done.stderr) == (expected == 1)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened() -> None:
    unit = TOP / "systemd/video-appliance.service"
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "Type=notify",
        "KillMode=mixed",
        "OOMPolicy=continue",
        "Restart=on-failure",
        "RestartPreventExitStatus=78",
        "User=video-appliance",
        "RuntimeDirectoryPreserve=restart",
    ],
)
def test_the_unit_says(setting: str) -> None:
    assert setting in (TOP / "systemd/video-appliance.service").read_text().splitlines()
