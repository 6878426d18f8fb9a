"""The emulated account of these tests: MiniStack, and clients of it."""

import boto3
from botocore.config import Config

from ministack import MiniStack

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}


class Account(MiniStack):
    """An emulated account, seen by boto3."""

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS SDK in another process needs to find it."""
        return CREDENTIALS | {"AWS_ENDPOINT_URL": self.endpoint}

    def client(self, service: str):
        """A client of boto3. Nothing is repeated: an emulator on this machine loses no answers."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )
