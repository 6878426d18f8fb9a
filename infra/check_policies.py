"""Checks that every permission in a template is for single actions on single resources: `check_policies.py TEMPLATE`.

No `Allow` may have a `*` or `?` in an action, and in a resource only where it stands for the objects below a folder of
one bucket. The one exception is in EXCEPTIONS. A `Deny` may be as wide as it likes. Each resource of a policy must be one
whose text can be seen, or a single resource of the template. Run by `lint`, in whose environment cfn-lint is.
"""

import re
import sys

from cfnlint.decode.cfn_yaml import load

# Actions that know no resource but `*`, by the logical id of the policy that may have them.
EXCEPTIONS = {"TracingPolicy": {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}}

# All objects below a folder of one bucket.
BELOW_A_FOLDER = re.compile(r"arn:\$\{AWS::Partition\}:s3:::\$\{\w+\}/\$\{\w+\}/\*")

# Statements that name a principal belong to a resource, and are about that resource alone.
ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z]+")


def statements(node, path=()):
    """Yields (path, statement) for each policy statement below a node, inside `Fn::If` too."""
    if isinstance(node, dict):
        if "Effect" in node:
            yield path, node
        for key, value in node.items():
            yield from statements(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from statements(value, (*path, str(index)))


def listed(value):
    """A value that may be one or a list of them."""
    return value if isinstance(value, list) else [value]


def text_of(resource):
    """The text of a resource with its variables unresolved; None where it is a resource of the template."""
    if isinstance(resource, str):
        return resource
    if isinstance(resource, dict) and set(resource) == {"Fn::Sub"}:
        return listed(resource["Fn::Sub"])[0]
    if isinstance(resource, dict) and set(resource) <= {"Ref", "Fn::GetAtt"}:
        return None
    return "?"  # something that can't be read here can't be judged


def problems(path, statement):
    """Yields what is wrong with a statement."""
    if statement["Effect"] != "Allow":
        return
    for inverted in ("NotAction", "NotResource", "NotPrincipal"):
        if inverted in statement:
            yield f"{inverted} allows what nobody has listed"
    actions = listed(statement.get("Action", []))
    for action in actions:
        if not isinstance(action, str) or not ACTION.fullmatch(action):
            yield f"the action {action!r} is no single action"
    principal = statement.get("Principal", {})
    if principal == "*" or "*" in listed(principal.get("AWS", [])):
        yield "anybody may do it"
    if set(actions) <= EXCEPTIONS.get(path[0], set()):
        return
    for resource in listed(statement.get("Resource", [])):
        text = text_of(resource)
        if text and re.search(r"[*?]", text) and not BELOW_A_FOLDER.fullmatch(text):
            yield f"the resource {text!r} is no single resource"


def main():
    """Prints what is wrong and returns the exit code."""
    template = load(sys.argv[1])
    found, seen = [], 0
    for path, statement in statements(template["Resources"]):
        seen += 1
        name = statement.get("Sid", ".".join(path[1:]))
        found += [f"{path[0]}, {name}: {problem}" for problem in problems(path, statement)]
    for line in found:
        print(line, file=sys.stderr)
    if not seen:
        print("the template has no policy statements: nothing was checked", file=sys.stderr)
    return 1 if found or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
