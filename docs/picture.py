"""Make docs/result.png, the picture in the README: a real result, photographed by Chromium.

Needs Chromium, Pillow and the [offline] extra.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import ragcompress as rc
from ragcompress.html import page

TARGET = Path(__file__).with_name("result.png")
QUESTION = "Why was Smeaton's lighthouse taken down, and where is it now?"
DOCUMENTS = (
    rc.Document(
        "The Eddystone Rocks lie about nine miles south of Rame Head in Cornwall. Most of the reef is covered at high "
        "tide. Four towers have been built there. Henry Winstanley completed the first in 1698, and it was swept away "
        "with its builder in the Great Storm of 1703.",
        title="Eddystone Lighthouse",
    ),
    rc.Document(
        "John Smeaton modelled the third tower on the trunk of an oak, broad at the foot and curving inwards. He "
        "dovetailed blocks of granite into one another and joined them with a mortar that sets under water. The light "
        "was first shown in 1759. In the 1870s it was found that the sea was eroding the rock beneath the tower. Its "
        "upper part was taken down and rebuilt on Plymouth Hoe, where it can still be climbed.",
        title="Smeaton's Tower",
    ),
    rc.Document(
        "Augustin-Jean Fresnel divided a lens into rings of prisms. The result is thin and gathers most of the light "
        "of a lamp into one beam. The first was lit at Cordouan in 1823.",
        title="The Fresnel lens",
    ),
    rc.Document("Coffee grows best between the tropics. The seeds are dried, hulled and roasted.", title="Coffee"),
)


def main() -> None:
    """Write the picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is not installed.")
    compressor = rc.load("recomp-extractive", top_k=4, token_counter="words")
    compressor.compress(QUESTION, DOCUMENTS)
    with tempfile.TemporaryDirectory() as folder:
        # The second time, as in use: the sentences are remembered.
        Path(folder, "page.html").write_text(page(compressor.compress(QUESTION, DOCUMENTS)), encoding="utf-8")
        options = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --hide-scrollbars --window-size=820,900 "
            f"--force-device-scale-factor=2 --blink-settings=preferredColorScheme=1 --user-data-dir={folder}/profile"
        )
        shot = Path(folder, "shot.png")
        command = [chromium, *options.split(), f"--screenshot={shot}", f"file://{folder}/page.html"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 (our own arguments)
        picture = Image.open(shot).convert("RGB")
    # Cut off the empty page below the card, as much as there is above it.
    ground = picture.getpixel((0, 0))
    rows = [y for y in range(picture.height) if picture.getpixel((picture.width // 2, y)) != ground]
    picture = picture.crop((0, 0, picture.width, min(picture.height, rows[-1] + rows[0])))
    picture.quantize(128, dither=Image.Dither.NONE).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
