"""Waiting for a condition, with a deadline."""

import time


def until(what: str, condition, seconds: float = 90, pause: float = 0.1):
    """The first true value of `condition()`; an AssertionError that says `what` if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} seconds: {what}")
        time.sleep(pause)
    return value
