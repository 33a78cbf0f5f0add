"""Small things said the same way on the page and in the terminal."""


def title(url: str) -> str:
    """The last name in a store's URL."""
    return url.rstrip("/").rsplit("/", 1)[-1] or url


def counted(count: int, thing: str) -> str:
    """How many of a thing, with its plural in s."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def number(value: float) -> str:
    """A measured number in three digits, without an exponent while it is at most millions."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time span in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def parameters(params: object) -> str:
    """A stage's parameters on one line."""
    if isinstance(params, dict):
        return ", ".join(f"{name}: {parameters(value)}" for name, value in params.items())
    if isinstance(params, list | tuple):
        return "[" + ", ".join(parameters(value) for value in params) + "]"
    return str(params)


def shortened(text: str, most: int = 400) -> str:
    """A text that fits."""
    return text if len(text) <= most else text[: most - 3] + "..."
