"""`completion SHELL`: a script for bash, zsh or fish, made from the very parsers that read the command line."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.cli import exits
from appliance.domain.errors import ApplianceError

PROGRAM = "video-appliance"
#: What an argument of this name (metavar) may be: files, or nothing that a shell knows.
FILES = ("FILE", "PATH", "DIR")


@dataclass(frozen=True)
class Offered:
    """What may follow a verb. `words`: choices of its arguments; `files`: whether a path may stand there."""

    summary: str
    options: Mapping[str, str]
    words: tuple[str, ...]
    files: bool


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=WRITERS, metavar="bash|zsh|fish", help="the shell that is to complete")
    parser.epilog = (
        f"bash: {PROGRAM} completion bash | sudo tee /etc/bash_completion.d/{PROGRAM}\n"
        f"zsh:  into a directory of $fpath as _{PROGRAM}\n"
        f"fish: {PROGRAM} completion fish >~/.config/fish/completions/{PROGRAM}.fish"
    )


def main(options: argparse.Namespace) -> int:
    """Needs neither configuration nor service."""
    if options.json:
        raise ApplianceError("A completion script is no JSON.", code="no_json", hint="Leave --json out.")
    print(WRITERS[options.shell](offers(options.parsers())))
    return exits.DONE


def offers(parsers: Mapping[str, argparse.ArgumentParser]) -> dict[str, Offered]:
    """Verb → what may follow it; what help keeps quiet about is not offered."""
    return {verb: _offered(parser) for verb, parser in parsers.items()}


def _offered(parser: argparse.ArgumentParser) -> Offered:
    # argparse has no public way to ask what it was told; `_actions` has been there since 2.7.
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]  # noqa: SLF001
    options = {name: _help(action) for action in actions for name in action.option_strings if name.startswith("--")}
    words = tuple(str(word) for action in actions for word in action.choices or ())
    files = any(name in str(action.metavar) for action in actions if not action.option_strings for name in FILES)
    summary = (parser.description or "").partition(": ")[2].rstrip(".")
    return Offered(summary, options, words, files)


def _help(action: argparse.Action) -> str:
    return (action.help or "").partition(";")[0].partition(" (")[0]


def bash(offered: Mapping[str, Offered]) -> str:
    """For bash ≥ 4, with or without bash-completion."""
    cases = "\n".join(
        f"    {verb}) words={shlex.quote(' '.join((*it.options, *it.words)))}; files={'yes' if it.files else ''} ;;"
        for verb, it in offered.items()
    )
    return f"""# bash completion for {PROGRAM}; made by `{PROGRAM} completion bash`
_video_appliance() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb='' words='' files='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
    --config) ((i++)) ;;
    -*) ;;
    *) verb=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $verb in
    '') words={shlex.quote(" ".join(("--config", "--json", "--help", *offered)))} ;;
{cases}
  esac
  case $before in --config|--out) words=''; files=yes ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  if [ -n "$files" ] && [ "${{word#-}}" = "$word" ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -f -- "$word"))
  fi
}}
complete -F _video_appliance {PROGRAM}"""


def zsh(offered: Mapping[str, Offered]) -> str:
    """For zsh's compsys."""
    verbs = "\n".join(f"    {shlex.quote(f'{verb}:{it.summary}')}" for verb, it in offered.items())
    cases = "\n".join(
        f"    {verb}) options=({' '.join(shlex.quote(_described(*pair)) for pair in it.options.items())});"
        f" choices=({' '.join(it.words)}); files={'yes' if it.files else ''} ;;"
        for verb, it in offered.items()
    )
    return f"""#compdef {PROGRAM}
# zsh completion; made by `{PROGRAM} completion zsh`
local -a verbs options choices
local files= verb= word
verbs=(
{verbs}
)
for word in ${{words[2,CURRENT-1]}}; do
  if (( $+verbs[(r)$word:*] )); then verb=$word; break; fi
done
case $verb in
    '') _describe verb verbs; return ;;
{cases}
esac
if [[ ${{words[CURRENT-1]}} == (--config|--out) ]]; then _files; return; fi
if [[ $PREFIX == -* ]]; then _describe option options; return; fi
compadd -a choices
[[ -z $files ]] || _files"""


def _described(option: str, summary: str) -> str:
    return f"{option}:{summary}" if summary else option


def fish(offered: Mapping[str, Offered]) -> str:
    """For fish ≥ 3."""
    lines = [f"# fish completion; made by `{PROGRAM} completion fish`", f"complete -c {PROGRAM} -f"]
    lines += [_fish("__fish_use_subcommand", f"-a {verb}", it.summary) for verb, it in offered.items()]
    for verb, it in offered.items():
        after = f"__fish_seen_subcommand_from {verb}"
        lines += [_fish(after, f"-l {name.removeprefix('--')}", summary) for name, summary in it.options.items()]
        lines += [_fish(after, f"-a {shlex.quote(' '.join(it.words))}", "")] if it.words else []
        lines += [f"complete -c {PROGRAM} -n {shlex.quote(after)} -F"] if it.files else []
    return "\n".join(lines)


def _fish(condition: str, what: str, summary: str) -> str:
    described = f" -d {shlex.quote(summary)}" if summary else ""
    return f"complete -c {PROGRAM} -n {shlex.quote(condition)} {what}{described}"


WRITERS = {"bash": bash, "zsh": zsh, "fish": fish}
