"""A worker of the end-to-end tests: most tasks succeed, some fail once, some always, some take too long."""

import time


def kind(number: int) -> str:
    """What happens to the task of that section."""
    match number % 50:
        case 1:
            return "always"
        case 2 | 3:
            return "once"
        case 4 if number % 400 == 4:
            return "hangs"
    return "well"


def handler(event, _context):
    """Works a task off."""
    number = int(event["sections"][0].removeprefix("section-"))
    match kind(number):
        case "hangs":
            time.sleep(60)
        case "always":
            raise ValueError(f"no such section: {number}")
        case "once" if event["attempts"] == 0:
            raise TimeoutError("the shop does not answer")
    return {"number": number}
