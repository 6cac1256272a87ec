"""The files of the pages that people see, with the headers they are sent with."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
PAGES = {"/": "index.html", "/docs": "docs.html"}
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing from outside, nothing inline, no frame around it. Swagger UI's style sheet draws its arrows with data: addresses.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def list_routes() -> list[str]:
    """The paths of the pages and of the files they load."""
    loaded = (path.name for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES and path.suffix != ".html")
    return [*PAGES, *(f"/page/{name}" for name in loaded)]


def answer_file(route: str, known: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers for one of `list_routes`; 304 where the client's `If-None-Match`, `known`, names the file."""
    path = FOLDER / PAGES.get(route, route.rpartition("/")[2])
    body = path.read_bytes()
    tag = b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode()
    headers = [
        (b"content-type", f"{TYPES[path.suffix]}; charset=utf-8".encode()),
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
        (b"etag", tag),
    ]
    if tag in known:
        return 304, b"", headers
    return 200, body, [*headers, (b"content-length", b"%d" % len(body))]
