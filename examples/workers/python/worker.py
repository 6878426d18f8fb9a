"""A worker: what it returns is the result of its task, what it raises is the task's error."""
import json
import sys


def handler(task, context=None):
    stores = task["stores"]
    return {"stores": len(stores), "attempt": task["attempts"] + 1}


if __name__ == "__main__":  # as a program: the task comes on standard input
    print(json.dumps(handler(json.load(sys.stdin))))
