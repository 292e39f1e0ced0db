"""Figures of the paper, where they are known: (task, method) -> text. What is not known stays empty in the tables."""

PUBLISHED: dict[tuple[str, str], str] = {}


def published(task: str, method: str) -> str:
    """The figure, or an empty text."""
    return PUBLISHED.get((task, method), "")
