"""An object store and its queues for the tests: moto in this process, driven by JSON lines on standard input.

Prints {"endpoint": …} first, then one line for each command. Counts the requests it serves, so that a test can say
what was asked of the store.
"""

import collections
import datetime
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
from moto.s3.models import s3_backends
from moto.sqs.models import Queue
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

counts = collections.Counter()
# Requests to be refused: by kind, how often still and with which status.
refusals = {}

SIGNED = "AWS4-HMAC-SHA256 Credential=key/20240101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"

# moto replaces a queue's list when it deletes from it, so that a message added by another thread meanwhile is lost.
delete_unlocked = Queue.delete_message


def delete_message(queue, receipt_handle):
    with queue._messages_lock:
        delete_unlocked(queue, receipt_handle)


Queue.delete_message = delete_message


class Quiet(WSGIRequestHandler):
    """Keeps connections open, as the real service does, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


def counted(application):
    def serve(environ, start_response):
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        query = environ.get("QUERY_STRING", "")
        if target:
            kind = target.split(".")[-1]
        elif "list-type" in query:
            kind = "list"
        else:
            kind = environ["REQUEST_METHOD"].lower()
        counts[kind] += 1
        # Google's client signs nothing here, and what nobody signed may not read.
        environ.setdefault("HTTP_AUTHORIZATION", SIGNED)
        times, status = refusals.get(kind, (0, 0))
        if times > 0:
            refusals[kind] = (times - 1, status)
            counts["refused"] += 1
            start_response(f"{status} Later", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return application(environ, start_response)

    return serve


application = counted(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"
settings = dict(
    endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
)
s3, sqs, sns = (boto3.client(service, **settings) for service in ("s3", "sqs", "sns"))
pool = ThreadPoolExecutor(8)


def put(bucket, objects):
    list(pool.map(lambda o: s3.put_object(Bucket=bucket, Key=o[0], Body=o[1].encode("latin-1")), objects))


def queue(name, bucket):
    """A queue that the bucket tells of its new objects."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    tells = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=tells)
    return url


def date(bucket, key, at):
    """Makes an object one of another day."""
    store = next(s for account in s3_backends.values() for s in account.values() if bucket in s.buckets)
    store.buckets[bucket].keys[key].last_modified = datetime.datetime.fromisoformat(at)


def keys(bucket, prefix):
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def depth(url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(attributes[name]) for name in names]


def answer(command):
    match command:
        case {"do": "bucket", "name": name}:
            s3.create_bucket(Bucket=name)
        case {"do": "put", "bucket": bucket, "objects": objects}:
            put(bucket, objects)
        case {"do": "remove", "bucket": bucket, "key": key}:
            s3.delete_object(Bucket=bucket, Key=key)
        case {"do": "queue", "name": name, "bucket": bucket}:
            return queue(name, bucket)
        case {"do": "silence", "bucket": bucket}:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        case {"do": "date", "bucket": bucket, "key": key, "at": at}:
            date(bucket, key, at)
        case {"do": "keys", "bucket": bucket, "prefix": prefix}:
            return keys(bucket, prefix)
        case {"do": "refuse", "kind": kind, "times": times, "status": status}:
            refusals[kind] = (times, status)
        case {"do": "send", "queue": url, "body": body}:
            sqs.send_message(QueueUrl=url, MessageBody=body)
        case {"do": "depth", "queue": url}:
            return depth(url)
        case {"do": "counts"}:
            return dict(counts)
    return None


print(json.dumps({"endpoint": endpoint}), flush=True)
for line in sys.stdin:
    try:
        print(json.dumps({"answer": answer(json.loads(line))}), flush=True)
    except Exception as error:  # The test shows it.
        print(json.dumps({"error": repr(error)}), flush=True)
