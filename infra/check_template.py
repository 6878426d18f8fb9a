"""Checks of a template that no linter has: `check_template.py TEMPLATE RUNBOOK`. Run by `lint`, in whose environment
cfn-lint is.

Permissions: each is for single actions on single resources. No `Allow` may have a `*` or `?` in an action, and in a
resource only where it stands for the objects below a folder of one bucket. The exceptions are in EXCEPTIONS. A `Deny` may
be as wide as it likes. Each resource of a policy must be one whose text can be seen, or a single resource of the template.

What is kept: tables and buckets outlive the stack, but not a first deployment that failed, which would leave names that
the next attempt can't take.

Alarms: each names a section of the runbook. One that rings on silence rings within half an hour: CloudWatch looks back
beyond the periods of an alarm for numbers that are there, so silence has to be filled.
"""

import re
import sys
from pathlib import Path

from cfnlint.decode.cfn_yaml import load

# Actions that know no resource but `*`, by the logical id of the policy that may have them.
TRACING = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
EXCEPTIONS = {
    "TracingPolicy": TRACING,
    "OrchestratorTracingPolicy": TRACING,
    "OrchestratorHealthPolicy": {"cloudwatch:GetMetricStatistics"},
}

# All objects below a folder of one bucket.
BELOW_A_FOLDER = re.compile(r"arn:\$\{AWS::Partition\}:s3:::\$\{\w+\}/\$\{\w+\}/(\w+/)*\*")

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


def permissions(template):
    """Yields what is wrong with the policies."""
    seen = 0
    for path, statement in statements(template["Resources"]):
        seen += 1
        name = statement.get("Sid", ".".join(path[1:]))
        yield from (f"{path[0]}, {name}: {problem}" for problem in problems(path, statement))
    if not seen:
        yield "the template has no policy statements: nothing was checked"


# Resources that hold what must not be lost.
KEPT = {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy"}


def kept(template):
    """Yields what would be lost with the stack, or stand in the way of the next attempt to deploy it."""
    wanted = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    for name, resource in template["Resources"].items():
        for key, value in wanted.items() if resource["Type"] in KEPT else ():
            if resource.get(key) != value:
                yield f"{name}: its {key} is {resource.get(key)}, not {value}"


# An alarm that waits for a sign of life rings so many seconds after the last one.
PATIENCE = 1800


def alarms(template, runbook):
    """Yields what is wrong with the alarms."""
    sections = set(re.findall(r"^### ([a-z-]+)$", runbook, re.MULTILINE))
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::CloudWatch::Alarm":
            continue
        alarm = resource["Properties"]
        section = re.search(r"docs/operate\.md#([a-z-]+)", text_of(alarm["AlarmDescription"]) or "")
        if not section or section[1] not in sections:
            yield f"{name}: its description names no section of the runbook"
        if alarm["TreatMissingData"] != "breaching":
            continue
        metrics = {metric["Id"]: metric for metric in alarm.get("Metrics", [])}
        shown = [metric for metric in metrics.values() if metric.get("ReturnData")]
        filled = re.fullmatch(r"FILL\((\w+), 0\)", shown[0].get("Expression", "")) if shown else None
        if not filled:
            yield f"{name}: silence is not filled, so it would ring too late"
        elif metrics[filled[1]]["MetricStat"]["Period"] * alarm["EvaluationPeriods"] > PATIENCE:
            yield f"{name}: it would ring later than {PATIENCE} seconds after the last sign of life"


def main():
    """Prints what is wrong and returns the exit code."""
    template, runbook = load(sys.argv[1]), Path(sys.argv[2]).read_text()
    found = [*permissions(template), *kept(template), *alarms(template, runbook)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
