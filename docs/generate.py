"""Write the generated parts of the README: the table of backends, from the registry's own metadata.

``python docs/generate.py`` writes; with ``--check`` it only says whether anything is out of date (exit code 1).
"""

import sys
from pathlib import Path

import ragcompress as rc

README = Path(__file__).parents[1] / "README.md"
# The README lists what this project ships, not what else happens to be installed.
OWN = "ragcompress.backends."


def backend_table() -> str:
    """The built-in backends as a markdown table."""
    rows = [
        "| backend | what it does | result | needs query | computed once | checkpoints (licence of the weights) |",
        "|---|---|---|---|---|---|",
    ]
    for name in rc.available():
        backend = rc.find(name)
        if not backend.__module__.startswith(OWN):
            continue
        info = backend.info
        checkpoints = ", ".join(
            f"`{each.id}` ({each.licence}{'; ' + each.note if each.note else ''})" for each in info.checkpoints
        )
        title = f"[`{name}`]({info.paper})" if info.paper else f"`{name}`"
        rows.append(
            f"| {title} | {info.summary} | {info.kind} | {'yes' if info.needs_query else 'no'} | {info.offline or '-'} "
            f"| {checkpoints or '-'} |"
        )
    return "\n".join(rows)


def replaced(text: str, name: str, content: str) -> str:
    """Put content between the markers of a name.

    Args:
        text: of the README.
        name: of the markers.
        content: what goes between them.

    Returns:
        The new text.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Write or check; the exit code says whether the README was up to date."""
    text = README.read_text(encoding="utf-8")
    new = replaced(text, "backends", backend_table())
    if "--check" in sys.argv:
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
