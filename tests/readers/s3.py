"""A bucket named `lakes` on a port of this machine, for tests: moto, with keys that are looked at and faults on order.

    python s3.py PORT

`lake-key` may do everything, `reader-key` may read, others nothing. POST /_fault with a JSON of
{"method", "match", "count", "status", "after"} lets the next `count` requests fail whose method is this and
whose path holds that: with that HTTP status, after they were done if "after" is set. POST null ends that.
"""

import json
import re
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple
from werkzeug.test import Client

lock = threading.Lock()
faults = []


def refuse(start, status, code, extra=""):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message>{extra}</Error>".encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class Server:
    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, start):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/_fault":
            length = int(environ.get("CONTENT_LENGTH") or 0)
            fault = json.loads(environ["wsgi.input"].read(length))
            with lock:
                if fault:
                    faults.append(fault)
                else:
                    faults.clear()
            start("204 No Content", [])
            return [b""]
        found = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        key = found and found.group(1)
        if key not in ("lake-key", "reader-key"):
            return refuse(start, "403 Forbidden", "InvalidAccessKeyId", f"<AWSAccessKeyId>{key}</AWSAccessKeyId>")
        if key == "reader-key" and method not in ("GET", "HEAD"):
            return refuse(start, "403 Forbidden", "AccessDenied")
        fault = None
        with lock:
            for f in faults:
                if f["count"] > 0 and f["method"] == method and f["match"] in path + "?" + environ["QUERY_STRING"]:
                    f["count"] -= 1
                    fault = f
                    break
        if fault and fault.get("after"):
            list(self.app(environ, lambda *_: None))
        if fault:
            return refuse(start, f"{fault['status']} Fault", "InternalError")
        return self.app(environ, start)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


server = Server()
auth = {"Authorization": "AWS4-HMAC-SHA256 Credential=lake-key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
made = Client(server).put("/lakes", base_url="http://127.0.0.1", headers=auth)
assert made.status_code == 200, made.data
run_simple("127.0.0.1", int(sys.argv[1]), server, threaded=True, request_handler=Quiet)
