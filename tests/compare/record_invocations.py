"""Creates the function `scheduler` with the alias `live`, whose invocations are lines of a file.

Usage: record_invocations.py ENDPOINT FILE. Each line is the invoked ARN, a blank, and the payload.
"""

import io
import sys
import zipfile

import boto3

HANDLER = """
import json, os

def handler(event, context):
    line = context.invoked_function_arn + " " + json.dumps(event, ensure_ascii=False) + "\\n"
    file = os.open(os.environ["RECORDS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)
"""

endpoint, file = sys.argv[1:]
code = io.BytesIO()
with zipfile.ZipFile(code, "w") as archive:
    archive.writestr("index.py", HANDLER)
client = boto3.client(
    "lambda",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="local",
    aws_secret_access_key="local",
)
client.create_function(
    FunctionName="scheduler",
    Runtime=f"python3.{sys.version_info.minor}",
    Handler="index.handler",
    Role="arn:aws:iam::000000000000:role/scheduler",
    Code={"ZipFile": code.getvalue()},
    Environment={"Variables": {"RECORDS": file}},
    Publish=True,
)
client.create_alias(FunctionName="scheduler", Name="live", FunctionVersion="1")
