"""The errors that a user can meet. Each is one line: what was given, what was expected, what to do."""


class DistkmeansError(Exception):
    """Base of every error that distkmeans raises on purpose."""


class InputError(DistkmeansError, ValueError):
    """Something the user gave (a row, file, field or value) cannot be used."""


class WorldError(DistkmeansError, RuntimeError):
    """The ranks of a job no longer agree, or one of them is gone."""


def whole_number(field: str, value: object, least: int | None = None) -> int:
    """The value as an int. Raises InputError, naming the field, for anything else or less than ``least``."""
    bound = "" if least is None else f", {least} or more"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"{field}={value}: expected a whole number{bound}")
    number = value.__index__()
    if least is not None and number < least:
        raise InputError(f"{field}={value}: expected a whole number{bound}")
    return number


def one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise InputError, naming the field, unless the value is one of those allowed."""
    if value not in allowed:
        raise InputError(f"{field}={value}: unknown; it is one of {', '.join(allowed)}")
