"""The errors that a user can meet. Each is one line: what was given, what was expected, what to do."""


class DistkmeansError(Exception):
    """Base of every error that distkmeans raises on purpose."""


class InputError(DistkmeansError, ValueError):
    """Something the user gave (a row, file, field or value) cannot be used."""


class WorldError(DistkmeansError, RuntimeError):
    """The ranks of a job no longer agree."""


class RankLostError(WorldError):
    """A rank is gone or does not answer: the others cannot go on without it. speaks: whether this rank tells the user.

    Rank 0 may be the one that is gone.
    """

    def __init__(self, text: str, *, speaks: bool) -> None:
        super().__init__(text)
        self.speaks = speaks


SHARED = "distkmeans: all ranks know"


def share(error: Exception) -> None:
    """Mark an error as one that all ranks raise, each in its way."""
    if not is_shared(error):
        error.add_note(SHARED)


def is_shared(error: Exception) -> bool:
    """Whether all ranks know of the error."""
    return SHARED in getattr(error, "__notes__", ())


def first_line(error: BaseException) -> str:
    """What an error says, cut after its first line; its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
