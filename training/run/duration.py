"""Durations as text."""


def duration(seconds: float) -> str:
    """`seconds`, 0 or more, in at most two units: "0.7 s", "42 s", "3 min 20 s", "1 h 12 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"
