"""An object store and its queues for the tests: moto in this process, driven by JSON lines on standard input.

Prints {"endpoint": …} first, then one line for each command. Counts the requests it serves, so that a test can say
what was asked of the store.
"""

import collections
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
from moto.sqs.models import Queue
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

counts = collections.Counter()

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
            counts[target.split(".")[-1]] += 1
        elif "list-type" in query:
            counts["list"] += 1
        else:
            counts[environ["REQUEST_METHOD"].lower()] += 1
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
