"""What a person sees in a terminal: results on stdout, progress and notices on stderr.

Off a terminal there is no box, no colour, no truncation and no wrapping; progress is one line a minute.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

__all__ = ["Progress", "Terminal", "duration", "table", "terminal"]

_LINE_EVERY = 60.0  # seconds, off a terminal

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Terminal:
    """Where a command writes. One instance, `terminal`; the handler sets its level from -q and -v."""

    def __init__(self) -> None:
        self.level = 0  # -1 quiet, 0 normal, 1 verbose
        self.results_to_stderr = False  # with --json -, stdout holds only the JSON

    def result(self, text: str = "", style: str | None = None) -> None:
        """A line of the result."""
        self._write(sys.stderr if self.results_to_stderr else sys.stdout, text, style)

    def notice(self, text: str, style: str | None = None) -> None:
        """Something a person should know, on stderr; silent with -q."""
        if self.level >= 0:
            self._write(sys.stderr, text, style)

    def detail(self, text: str) -> None:
        """Only with -v."""
        if self.level > 0:
            self._write(sys.stderr, text, "dim")

    def warning(self, text: str) -> None:
        """A warning, also with -q."""
        self._write(sys.stderr, f"warning: {text}", "yellow")

    def error(self, text: str, *, style: str | None = "bold red") -> None:
        """An error, whatever the level."""
        self._write(sys.stderr, text, style)

    @staticmethod
    def _write(stream: TextIO, text: str, style: str | None) -> None:
        # A lone surrogate (a file name that is no UTF-8) must not stop a message.
        safe = text.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8")
        safe = "".join(c if c.isprintable() or c in "\n\t\u200c\u200d" else f"\\x{ord(c):02x}" for c in safe)
        if style and stream.isatty():
            codes = ";".join(_CODES[part] for part in style.split())
            safe = f"\x1b[{codes}m{safe}\x1b[0m"
        stream.write(safe + "\n")
        stream.flush()

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Progress]:
        """A progress bar on a terminal, one line a minute elsewhere, nothing with -q."""
        bar = Progress(label, total, shown=self.level >= 0)
        try:
            yield bar
        finally:
            bar.close()


class Progress:
    """Counts items (and seconds of audio) done, and says so now and then.

    Args:
        label: what is being done.
        total: how many items, or None when unknown.
        shown: False counts silently.
    """

    def __init__(self, label: str, total: int | None, *, shown: bool = True) -> None:
        self.label, self.total, self.done, self.skipped, self.seconds = label, total, 0, 0, 0.0
        self._started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._shown = shown
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(label, total=total, rate="")

    def advance(self, seconds: float = 0.0, *, skipped: bool = False) -> None:
        """One more item is done."""
        self.done += 1
        self.skipped += skipped
        self.seconds += seconds
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self._rate())
        elif self._shown and time.monotonic() - self._said > _LINE_EVERY:
            self._said = time.monotonic()
            terminal.notice(
                f"{self.label}: {self.done}{f' of {self.total}' if self.total else ''}, {self._rate()}, {duration(self._left())} left"
            )

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    def _left(self) -> float:
        return (self.total - self.done) * self._elapsed() / self.done if self.total and self.done else float("nan")

    def _rate(self) -> str:
        parts = [f"{self.done / self._elapsed():.1f}/s"]
        if self.seconds:
            parts.append(f"{self.seconds / 3600:.2f} h of audio, {self.seconds / self._elapsed():.0f} x real time")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """A time for people: ``12.3 s``, ``3 min 04 s``, ``1 h 02 min``.

    Example:
        >>> duration(184)
        '3 min 04 s'
    """
    if seconds != seconds:  # noqa: PLR0124  (NaN)
        return "unknown time"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Aligned columns as lines; the first ``left`` columns are left-aligned, the others right-aligned."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    return [
        "  ".join(
            c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


terminal = Terminal()
