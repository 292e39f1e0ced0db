"""Lists of frames as they are written in a configuration: "all", "none" or "0-2,9,11"."""

from __future__ import annotations

import re

from semflow.utils.errors import ConfigError

ITEM = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_frames(text: str, count: int, key: str = "frame list") -> tuple[int, ...]:
    """Frames named by `text`, sorted, each once.

    Args:
        text: "all", "none", or 0-based frames and inclusive ranges separated by commas.
        count: number of frames of the scene.
        key: configuration key named in the error.

    Raises:
        ConfigError: not such a list, a range that runs backwards, or a frame that does not exist.
    """
    stripped = text.strip()
    if stripped in ("all", "none"):
        return tuple(range(count)) if stripped == "all" else ()
    frames: set[int] = set()
    for item in stripped.split(","):
        match = ITEM.fullmatch(item.strip())
        if not match:
            raise ConfigError(
                f"{key} = {text!r}: {item.strip()!r} is no frame or range; write all, none or a list like 0-2,9,11"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError(f"{key} = {text!r}: the range {item.strip()} runs backwards; write {last}-{first}")
        if last >= count:
            raise ConfigError(f"{key} = {text!r}: there is no frame {last}; the scene has the frames 0-{count - 1}")
        frames.update(range(first, last + 1))
    return tuple(sorted(frames))
