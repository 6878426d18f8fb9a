"""Runs a command and writes what it took to a file, as one line of JSON.

Usage: python3 -I -S measure.py FILE COMMAND [ARGUMENT...]. The keys are `status`, `seconds` (process start to exit), `cpu`
(seconds of user and system time) and `peak` (bytes of resident memory).

A process of its own, and a small one: Linux counts what a parent holds when it forks as the child's. So no peak below
that, about 5 MiB, can be seen.
"""

import os
import sys
import time

begun = time.monotonic()
child = os.fork()
if child == 0:
    try:
        os.execv(sys.argv[2], sys.argv[2:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - begun
with open(sys.argv[1], "w") as file:
    file.write(
        f'{{"status": {os.waitstatus_to_exitcode(status)}, "seconds": {seconds}, '
        f'"cpu": {usage.ru_utime + usage.ru_stime}, "peak": {usage.ru_maxrss * 1024}}}\n'
    )
