#!/usr/bin/env python3
"""Deploys infra/table.yaml to LocalStack, or to what stands in for it, and waits until the table is there.

It runs inside of the emulator's container, as its init hook, and beside it. Both at once are harmless: one creates the stack,
the other waits. Python's standard library is all that every one of those images has.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

ENDPOINT = os.environ.get("AWS_ENDPOINT_URL") or "http://localhost:4566"
REGION = os.environ.get("AWS_REGION") or "us-east-1"
TABLE = os.environ.get("STREAMBOX_TABLE") or "streambox"
TEMPLATE = "/etc/streambox/infra/table.yaml"
STACK = f"{TABLE.replace('_', '-').replace('.', '-')}-table"
INDEX = "outbox"

WAIT_S = 120
POLL_INTERVAL_S = 0.2
REQUEST_TIMEOUT_S = 30


def main():
    if not os.path.isfile(TEMPLATE):
        sys.exit(f"deploy-table: there is no {TEMPLATE}: mount the repository's directory infra at /etc/streambox/infra")
    deadline = time.monotonic() + WAIT_S
    create(deadline)
    wait_for_stack(deadline)
    check_table()
    print(f"deploy-table: the table {TABLE} is there (stack {STACK})", flush=True)


def create(deadline):
    with open(TEMPLATE, encoding="utf-8") as file:
        template = file.read()
    # A table on a laptop is there to be thrown away.
    parameters = {"TableName": TABLE, "DeletionProtection": "false"}
    request = {"StackName": STACK, "TemplateBody": template}
    for number, (key, value) in enumerate(parameters.items(), 1):
        request[f"Parameters.member.{number}.ParameterKey"] = key
        request[f"Parameters.member.{number}.ParameterValue"] = value
    while True:
        try:
            cloudformation("CreateStack", request)
            return
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if "AlreadyExistsException" in text:
                return
            sys.exit(f"deploy-table: the stack {STACK} can't be created: {text}")
        except OSError as error:
            # It is still starting.
            give_up_after(deadline, f"{ENDPOINT} does not answer: {error}")


def wait_for_stack(deadline):
    while True:
        answer = xml.fromstring(cloudformation("DescribeStacks", {"StackName": STACK}))
        status = text_of(answer, "StackStatus")
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return
        if status != "CREATE_IN_PROGRESS":
            sys.exit(f"deploy-table: the stack {STACK} is {status}: {text_of(answer, 'StackStatusReason')}")
        give_up_after(deadline, f"the stack {STACK} is still {status}")


def check_table():
    """An emulator may pass over what it does not know, in silence."""
    table = dynamodb("DescribeTable", {"TableName": TABLE})["Table"]
    indexes = [index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])]
    if table["TableStatus"] != "ACTIVE" or INDEX not in indexes:
        sys.exit(f"deploy-table: the table {TABLE} is {table['TableStatus']} and has the indexes {indexes}")


def text_of(answer, name):
    found = next((element.text for element in answer.iter() if element.tag.endswith(f"}}{name}") or element.tag == name), None)
    return found or "unknown"


def give_up_after(deadline, problem):
    if time.monotonic() > deadline:
        sys.exit(f"deploy-table: after {WAIT_S} s {problem}")
    time.sleep(POLL_INTERVAL_S)


def cloudformation(action, fields):
    body = urllib.parse.urlencode({"Action": action, "Version": "2010-05-15", **fields}).encode()
    return send("cloudformation", body, {"Content-Type": "application/x-www-form-urlencoded"})


def dynamodb(operation, fields):
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
    return json.loads(send("dynamodb", json.dumps(fields).encode(), headers))


def send(service, body, headers):
    # The signature is none: emulators look at its shape alone, which names the service.
    scope = f"local/20260101/{REGION}/{service}/aws4_request"
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    headers["X-Amz-Date"] = "20260101T000000Z"
    request = urllib.request.Request(ENDPOINT, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:
        return answer.read()


if __name__ == "__main__":
    main()
