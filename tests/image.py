"""`make image`: the programs compiled for this machine, beside their sources in bpf/images, as the wheel carries them."""

from __future__ import annotations

import json

from ctobserve.programs.compile import Source, compiled, image_path, shipped


def main() -> None:
    """Both forms; what is there and of these sources stays."""
    for trampolines in (True, False):
        source, path = Source.read(trampolines), image_path(trampolines)
        if shipped(source, trampolines) is None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(compiled(source)) + "\n")


if __name__ == "__main__":
    main()
