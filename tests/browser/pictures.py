"""The pictures of the status page: python -m tests.browser.pictures [DIRECTORY]

Writes them where they are kept, tests/browser/pictures/*.png, when no directory is named. Look at them before
you commit.
Needs Chromium and playwright-core, which `./install.sh test tests/browser` installs; BROWSER_MODULES says where.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from appliance.adapters.ffmpeg import tools
from appliance.cli.demo import sample
from appliance.cli.demo.player import Player
from appliance.wiring.local import encode_file
from tests.browser.player import HERE, in_chromium
from tests.browser.scenes import SCENES, served
from tests.browser.streams import SMALL

KEPT = HERE / "pictures"
DESK: dict[str, Any] = {"width": 1120, "height": 700}
PHONE: dict[str, Any] = {"width": 360, "height": 740}
#: name → (scene, what the browser is like). Only `busy*` and `idle` have media: the others show the page without.
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "idle": ("idle", DESK),
    "busy": ("busy", DESK),
    "busy-dark": ("busy", {**DESK, "scheme": "dark"}),
    "draining": ("draining", DESK),
    "broken": ("broken", {**DESK, "scheme": "dark"}),
    "phone": ("busy", PHONE),
}


@contextmanager
def media(directory: Path) -> Iterator[str]:
    """The address below which every video of the scenes lies: one slide of the sample, encoded."""
    source = sample.render(tools.find().ffmpeg, directory / "slide.mp4", sample.SLIDES[:1])
    encode_file(SMALL, source, directory / "out", lambda *_: None)
    with Player(directory / "out") as player:
        yield player.url


def visits(stack: ExitStack, media_url: str, pictures: Path) -> list[dict[str, Any]]:
    """Each scene served until the stack is closed, as status_page.mjs takes it."""
    found = []
    for name, (scene, browser) in PICTURES.items():
        site = stack.enter_context(served(SCENES[scene](), media_url if scene in ("idle", "busy") else ""))
        found.append({"site": site, **browser, "picture": str(pictures / f"{name}.png")})
    return found


def shrunk(picture: Path) -> None:
    """The same with a palette: it is a page of few colours."""
    small = picture.with_suffix(".small.png")
    palette = "split[a][b];[a]palettegen=max_colors=64:stats_mode=single[p];[b][p]paletteuse=dither=none"
    command = [tools.find().ffmpeg, "-v", "error", "-y", "-i", str(picture), "-vf", palette, "-compression_level", "9"]
    subprocess.run([*command, "-pred", "none", str(small)], check=True)
    small.replace(picture)


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        url = stack.enter_context(media(Path(scratch)))
        in_chromium("status_page.mjs", visits(stack, url, directory), ("playwright-core",))
    for name in PICTURES:
        shrunk(directory / f"{name}.png")
        print(directory / f"{name}.png", (directory / f"{name}.png").stat().st_size)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else KEPT)
