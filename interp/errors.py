"""Errors that the user can fix: each is one plain sentence that says what to type next."""


class UserError(Exception):
    """Base of errors that the user can fix. The command line prints the sentence and exits with `exit_status`."""

    exit_status = 1


class ArgumentError(UserError):
    """Invalid arguments: an unknown name, an impossible value, an unreadable file. Nothing was run."""

    exit_status = 2


class RunError(UserError):
    """The run started and failed; what it had written is kept."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Returns ' Did you mean X?' for the known word nearest to `word`, or an empty string when none is near."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ArgumentError, listing the choices, if the value is not one of them."""
    if value not in choices:
        offered = ", ".join(f'"{choice}"' for choice in choices[:-1]) + f' or "{choices[-1]}"'
        raise ArgumentError(f"There is no {name} {value!r}: choose {offered}.")
