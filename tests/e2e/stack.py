"""The stack of infra/template.yaml in the emulator, and what tests do with it.

Names, keys, indexes, environment, retries, queues, schedules and inputs all come from the template.
"""

import contextlib
import json
import os
import signal
import uuid
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from emulator import Account
from jobqueue import Queue
from waiting import until

TEMPLATE = Path(__file__).parents[2] / "infra/template.yaml"
ARTIFACTS = "artifacts"
CODE = {"Scheduler": "scheduler.zip", "Orchestrator": "orchestrator.zip"}
"""The zip of each function of the template."""


class _Loader(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation's functions."""


def _long_form(loader: yaml.Loader, tag: str, node: yaml.Node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


def zipped(path: Path, files: dict[str, Path]) -> Path:
    """Makes a zip of these files, by their names in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as code:
        for name, file in files.items():
            code.write(file, name)
    return path


def upload_code(cloud: Account, binaries: dict[str, Path]) -> None:
    """Puts the zips of the functions where the template of `packaged_template` finds them."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=ARTIFACTS)
    for function, binary in binaries.items():
        archive = zipped(cloud.folder / CODE[function], {"bootstrap": binary})
        s3.upload_file(str(archive), ARTIFACTS, CODE[function])


def packaged_template(parameters: dict[str, str]) -> str:
    """The template as `sam build` and `sam package` leave it, with the code in S3, as far as MiniStack takes it."""
    template = yaml.load(TEMPLATE.read_text(), _Loader)  # a SafeLoader
    # It knows no metric math, and no policies apart from their role: alarms and dashboard, and the outputs that name them,
    # stay out, as do those policies, which it would not enforce.
    template["Resources"] = {
        name: resource
        for name, resource in template["Resources"].items()
        if not resource["Type"].startswith(("AWS::CloudWatch::", "AWS::IAM::RolePolicy"))
    }
    template.pop("Outputs", None)
    # Nor what is common to all functions: it goes where SAM's transform puts it.
    common = template.pop("Globals")["Function"]
    for name, code in CODE.items():
        properties = template["Resources"][name]["Properties"]
        variables = properties.get("Environment", {}).get("Variables", {})
        environment = {"Variables": common["Environment"]["Variables"] | variables}
        code_uri = {"CodeUri": f"s3://{ARTIFACTS}/{code}"}
        template["Resources"][name]["Properties"] = common | properties | code_uri | {"Environment": environment}
    defaults = {name: str(given.get("Default")) for name, given in template["Parameters"].items()}
    template["Conditions"] = _folded(template["Conditions"], defaults | parameters)
    return json.dumps(template)


def _folded(node, values: dict[str, str]):
    """Conditions with the splits and joins of parameters worked out: there MiniStack does not know these two."""
    match node:
        case {"Fn::Split": [separator, {"Ref": name}]}:
            return values[name].split(separator)
        case {"Fn::Join": [separator, {"Ref": name}]}:
            return separator.join(values[name].split(","))
        case dict():
            return {key: _folded(value, values) for key, value in node.items()}
        case list():
            return [_folded(value, values) for value in node]
    return node


class Stack(Queue):
    """A stack that is deployed."""

    def __init__(self, cloud: Account, name: str, **parameters: str) -> None:
        s3 = cloud.client("s3")
        s3.put_object(Bucket=ARTIFACTS, Key=f"{name}.json", Body=packaged_template(parameters))
        formation = cloud.client("cloudformation")
        formation.create_stack(
            StackName=name,
            TemplateURL=f"{cloud.endpoint}/{ARTIFACTS}/{name}.json",
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )

        def status() -> str:
            stack = formation.describe_stacks(StackName=name)["Stacks"][0]
            return "" if stack["StackStatus"] == "CREATE_IN_PROGRESS" else stack["StackStatus"]

        assert until(f"stack {name} is there", status) == "CREATE_COMPLETE", cloud.log()
        resources = formation.describe_stack_resources(StackName=name)["StackResources"]
        #: Physical names by logical ones.
        self.resources = {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources
        }
        self.lambda_ = cloud.client("lambda")
        self.function = self.resources["Scheduler"]
        until("the function is active", lambda: self._function()["State"] == "Active")
        config = self._function()["Environment"]["Variables"]["JOBMILL_CONFIG"]
        super().__init__(cloud, json.loads(config))

    def items(self, logical_id: str) -> list[dict]:
        """All items of a table, in DynamoDB's JSON."""
        pages = self.cloud.client("dynamodb").get_paginator("scan")
        pages = pages.paginate(TableName=self.resources[logical_id], ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    # ------------------------------------------------------------------------------------------------ function

    @property
    def invoke_config(self) -> dict:
        """What Lambda does with asynchronous events."""
        return self.lambda_.get_function_event_invoke_config(
            FunctionName=self.function, Qualifier="$LATEST"
        )

    def _function(self) -> dict:
        return self.lambda_.get_function_configuration(FunctionName=self.function)

    def invoke(self, event: dict) -> dict:
        """Invokes the scheduler and waits for its answer."""
        answer = self.lambda_.invoke(FunctionName=self.function, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def send(self, event: dict) -> None:
        """Invokes the scheduler asynchronously."""
        self.lambda_.invoke(
            FunctionName=self.function, InvocationType="Event", Payload=json.dumps(event)
        )

    @contextlib.contextmanager
    def reconfigured(self, *, timeout: int | None = None, config: dict | None = None, **variables: str):
        """Another time-out, other keys of the configuration, more environment, until this context ends."""
        before = self._function()
        environment = before["Environment"]["Variables"]
        merged = json.dumps(self.config | (config or {}))
        changed = environment | {"JOBMILL_CONFIG": merged} | variables
        self._configure(timeout or before["Timeout"], changed)
        yield
        self._configure(before["Timeout"], environment)

    def _configure(self, timeout: int, variables: dict) -> None:
        self.lambda_.update_function_configuration(
            FunctionName=self.function, Timeout=timeout, Environment={"Variables": variables}
        )
        until(
            "the function is updated",
            lambda: self._function()["LastUpdateStatus"] == "Successful",
        )

    def kill_sandboxes(self) -> int:
        """Kills every process of the function; how many there were."""
        mark = f"AWS_LAMBDA_FUNCTION_NAME={self.function}".encode()
        killed = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                mine = process.joinpath("exe").readlink().is_relative_to(self.cloud.folder)
                if mine and mark in process.joinpath("environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed

    def log_lines(self, key: str) -> list[dict]:
        """What the function has logged with that key in a line, such as `outcome`; without metrics."""
        pages = self.cloud.client("logs").get_paginator("filter_log_events")
        lines = []
        for page in pages.paginate(logGroupName=self.resources["SchedulerLogs"]):
            for event in page["events"]:
                if event["message"].startswith("{"):
                    lines.append(json.loads(event["message"]))
        return [line for line in lines if key in line and "_aws" not in line]

    def outcomes(self, run_id: str) -> list[str]:
        """How the invocations of a run have ended so far."""
        return [line["outcome"] for line in self.log_lines("outcome") if run_id in json.dumps(line)]

    # ----------------------------------------------------------------------------------------------- schedules

    def fire(self, logical_id: str, fill=lambda text: text) -> None:
        """Makes the emulator fire a schedule of the stack soon, once; `fill` fills in the placeholders of its input.

        It does so by a schedule beside it, which differs in its name and in when it fires.
        """
        scheduler = self.cloud.client("scheduler")
        group = self.resources["Schedules"]
        schedule = scheduler.get_schedule(Name=self.resources[logical_id], GroupName=group)
        assert schedule["State"] == "ENABLED"
        key = {"Name": f"{schedule['Name']}-{uuid.uuid4()}"[:64], "GroupName": group}
        now = datetime.now(timezone.utc) - timedelta(seconds=1)
        scheduler.create_schedule(
            **key,
            ScheduleExpression=f"at({now:%Y-%m-%dT%H:%M:%S})",
            ActionAfterCompletion="DELETE",
            FlexibleTimeWindow=schedule["FlexibleTimeWindow"],
            Target=schedule["Target"] | {"Input": fill(schedule["Target"]["Input"])},
        )

        def fired() -> bool:
            try:
                scheduler.get_schedule(**key)
            except scheduler.exceptions.ResourceNotFoundException:
                return True
            return False

        until(f"the schedule {logical_id} fires", fired, seconds=30)
