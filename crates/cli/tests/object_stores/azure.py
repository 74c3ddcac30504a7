"""Puts blobs into Azurite: azure.py ENDPOINT CONTAINER, then one JSON line [name, text] for each blob on standard input."""

import base64
import email.utils
import hashlib
import hmac
import json
import sys
import urllib.parse
import urllib.request

ACCOUNT = "devstoreaccount1"
# Azurite's well-known key; it opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
endpoint, container = sys.argv[1:]


def put(path, query, headers, body=b""):
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06", **headers}
    canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    resource = f"/{ACCOUNT}/{ACCOUNT}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    length = str(len(body)) if body else ""
    text = f"PUT\n\n\n{length}\n\n{'application/octet-stream' if body else ''}\n\n\n\n\n\n\n{canonical}{resource}"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    url = f"{endpoint}/{ACCOUNT}{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
    request = urllib.request.Request(url, data=body, method="PUT", headers=headers)
    request.add_header("Authorization", f"SharedKey {ACCOUNT}:{signature}")
    request.add_header("Content-Length", str(len(body)))
    if body:
        request.add_header("Content-Type", "application/octet-stream")
    else:
        request.add_unredirected_header("Content-Type", "")
    urllib.request.urlopen(request).read()


put(f"/{container}", {"restype": "container"}, {})
for line in sys.stdin:
    name, text = json.loads(line)
    put(f"/{container}/{urllib.parse.quote(name)}", {}, {"x-ms-blob-type": "BlockBlob"}, text.encode())
