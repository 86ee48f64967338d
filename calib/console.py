"""What a person sees in a terminal: results on stdout, progress and notices on stderr.

Off a terminal there is no box, no colour, no truncation and no wrapping; progress is one line a minute. With
``--progress json`` stderr is JSON lines: ``{"event": "progress", ...}`` once a second and at the end, and
``{"event": "notice" | "detail" | "warning" | "error", "text": ...}`` for everything else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

__all__ = ["Progress", "Terminal", "duration", "table", "terminal"]

_LINE_EVERY = 60.0  # seconds, off a terminal
_JSON_EVERY = 1.0  # seconds, as JSON lines

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Terminal:
    """Where a command writes. One instance, `terminal`; the handler sets its level from -q and -v."""

    def __init__(self) -> None:
        self.level = 0  # -1 quiet, 0 normal, 1 verbose
        self.results_to_stderr = False  # with --json -, stdout holds only the JSON
        self.json_lines = False  # --progress json

    def result(self, text: str = "", style: str | None = None) -> None:
        """A line of the result."""
        if self.results_to_stderr:
            self._say("result", text, style)
        else:
            self._write(sys.stdout, text, style)

    def notice(self, text: str, style: str | None = None) -> None:
        """Something a person should know, on stderr; silent with -q."""
        if self.level >= 0:
            self._say("notice", text, style)

    def detail(self, text: str) -> None:
        """Only with -v."""
        if self.level > 0:
            self._say("detail", text, "dim")

    def warning(self, text: str) -> None:
        """A warning, also with -q."""
        self._say("warning", text if self.json_lines else f"warning: {text}", "yellow")

    def error(self, text: str, *, style: str | None = "bold red") -> None:
        """An error, whatever the level."""
        self._say("error", text, style)

    def event(self, **fields: Any) -> None:
        """One JSON line on stderr."""
        self._write(sys.stderr, json.dumps(fields, allow_nan=False), None)

    def _say(self, kind: str, text: str, style: str | None) -> None:
        if self.json_lines:
            self.event(event=kind, text=text)
        else:
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
        """A progress bar on a terminal, one line a minute elsewhere, JSON lines where asked for, nothing with -q."""
        bar = Progress(label, total, shown=self.level >= 0 or self.json_lines)
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

    Attributes:
        done: items so far, with those that an earlier run did.
        skipped: of them, how many could not be used.
        seconds: of audio, in s.
    """

    def __init__(self, label: str, total: int | None, *, shown: bool = True) -> None:
        self.label, self.total, self.done, self.skipped, self.seconds = label, total, 0, 0, 0.0
        self._earlier, self._earlier_seconds = 0, 0.0  # by an earlier run: they say nothing about the rate
        self._started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._shown = shown
        if shown and sys.stderr.isatty() and not terminal.json_lines:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(label, total=total, rate="")

    def advance(self, seconds: float = 0.0, *, skipped: int = 0, items: int = 1, earlier: bool = False) -> None:
        """More items are done.

        Args:
            seconds: of audio in them, in s.
            skipped: how many of them could not be used.
            items: how many.
            earlier: an earlier run did them.
        """
        self.done += items
        self.skipped += skipped
        self.seconds += seconds
        if earlier:
            self._earlier += items
            self._earlier_seconds += seconds
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self._rate()}, {duration(self._left())} left")
        elif self._shown and now - self._said > (_JSON_EVERY if terminal.json_lines else _LINE_EVERY):
            self._said = now
            self._line()

    def _line(self, *, final: bool = False) -> None:
        if terminal.json_lines:
            left = self._left()
            terminal.event(
                event="progress",
                label=self.label,
                done=self.done,
                total=self.total,
                skipped=self.skipped,
                earlier=self._earlier,
                hours=round(self.seconds / 3600.0, 6),
                items_per_second=round((self.done - self._earlier) / self._elapsed(), 3),
                times_real_time=round((self.seconds - self._earlier_seconds) / self._elapsed(), 3),
                elapsed_seconds=round(self._elapsed(), 3),
                eta_seconds=None if left != left else round(left, 1),  # noqa: PLR0124  (NaN)
                final=final,
            )
            return
        total = f" of {self.total}" if self.total else ""
        terminal.notice(f"{self.label}: {self.done}{total}, {self._rate()}, {duration(self._left())} left")

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    def _left(self) -> float:
        now = self.done - self._earlier
        return max(self.total - self.done, 0) * self._elapsed() / now if self.total and now else float("nan")

    def _rate(self) -> str:
        parts = [f"{(self.done - self._earlier) / self._elapsed():.1f}/s"]
        if self.seconds:
            times = (self.seconds - self._earlier_seconds) / self._elapsed()
            parts.append(f"{self.seconds / 3600:.2f} h of audio, {times:.0f} x real time")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)

    def close(self) -> None:
        """Remove the bar; as JSON lines, say where it ended."""
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and terminal.json_lines:
            self._line(final=True)


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
