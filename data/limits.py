"""How much a download may ask of the servers and of this machine."""

from dataclasses import asdict, dataclass

from common.errors import InputError

DAY = 86_400
MOST = {
    "at_once": 1000, "per_host": 1000, "attempts": 1000, "backoff": DAY, "longest_wait": DAY, "silence": DAY,
    "patience": DAY, "most_bytes": 2**40,
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """All of them above zero, and none above what `MOST` says."""

    at_once: int = 32
    """Downloads at a time."""
    per_host: int = 4
    """Downloads at a time from one host."""
    attempts: int = 4
    """How often a URL is asked for that the server or the network fails to give."""
    backoff: float = 1.0
    """Seconds before the second attempt, and up to a half more; doubled before each further one."""
    longest_wait: float = 300.0
    """Most seconds that a server's Retry-After is obeyed; what asks for more has failed for now."""
    silence: float = 20.0
    """Seconds without a byte after which an attempt has failed."""
    patience: float = 120.0
    """Seconds after which an attempt has failed although bytes still come."""
    most_bytes: int = 30_000_000
    """Largest file."""

    def check(self) -> None:
        """Raise an `InputError` if one is out of range."""
        for name, value in asdict(self).items():
            if not 0 < value <= MOST[name]:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected more than 0, at most {MOST[name]:,}")
