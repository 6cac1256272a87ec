"""Who may ask the service: bearer keys with names, how often each may, and which web pages of other origins.

Starlette's CORSMiddleware would add 10 µs to every request, and answer preflights that are neither logged nor counted.
"""

import hashlib
import logging
import mmap
import re
import secrets
from collections.abc import Sequence
from hmac import compare_digest
from ipaddress import IPv6Address
from pathlib import Path
from time import monotonic

from modeler import ModelerError, UsageError
from modeler.service.body import RequestError

NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
LINE = re.compile(f"({NAME}):([0-9a-fA-F]{{64}})")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
DEFAULT_PORT = re.compile("http:.*:80|https:.*:443")  # which browsers leave out
HALF = 16  # bytes of a hash
NOBODY = bytes(2 * HALF), None, 0
KEYS, ADDRESSES = 2**16, 2**18  # buckets; two addresses share one by chance, two keys where there are more
NUMBER = 8  # bytes of a bucket
MAY_ASK = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, x-request-id"),
    (b"access-control-max-age", b"600"),
]
NEW_KEY = "`python pipeline.py key NAME` makes a key and its line"
log = logging.getLogger("bentoml.access")


class Access:
    """Admits requests or refuses them; without a key file, a rate and origins it admits all.

    `rate` is in requests a second, 0 for no limit. `origins` are those that `read_origins` returns. `shared` is a folder of
    this server's workers, whose name nobody else knows; without one the rate is counted in this process alone.
    """

    def __init__(self, file: Path | None = None, rate: int = 0, origins: Sequence[str] = (), shared: str | None = None):
        self.file, self.rate = file, rate
        self._origins = {origin.encode() for origin in origins}
        self._secret = Path(shared or secrets.token_hex()).name.encode()[
            -64:
        ]  # so that nobody can aim at another's bucket
        self._buckets = Buckets(rate, KEYS + ADDRESSES, shared and Path(shared, "rates")) if rate else None
        self._keys = self._read() if file else {}

    def load(self) -> None:
        """Read the key file anew. If it cannot be used, the keys before hold, and the log says why."""
        if self.file:
            try:
                self._keys = self._read()
                log.info("the keys of %s are taken up", self.file)
            except (ModelerError, OSError) as error:
                log.error("%s. Until then the keys before are valid", error)

    def _read(self) -> dict[bytes, tuple[bytes, str, int]]:
        keys = read_keys(self.file)
        if self.file.stat().st_mode & 0o004:
            log.warning("everybody on this machine can read the key file %s; `chmod o-r` forbids it", self.file)
        places = {name: place % KEYS for place, name in enumerate(sorted(set(keys.values())))}
        return {digest[:HALF]: (digest, name, places[name]) for digest, name in keys.items()}

    def admit(self, scope: dict, headers: dict[bytes, bytes]) -> None:
        """Note in the scope whose key a request bears as `caller`, "" for nobody's; a RequestError refuses it.

        A request without a right key counts against its address, so that guessing is slowed down and no owner of a key is.
        """
        name = place = None
        if self.file:
            name, place = self._find(_read_key(scope, headers))
            scope["caller"] = name or ""
        if self.rate:
            if name is None:
                place = self._find_place(scope.get("client"))
            if not self._buckets.take(place):
                sentence = f"too many requests; send at most {self.rate} a second"
                raise RequestError(429, sentence, headers=[(b"retry-after", b"1")])
        if self.file and name is None:
            sentence = "a right key is missing: send the header authorization: Bearer KEY"
            raise RequestError(401, sentence, headers=[(b"www-authenticate", b"Bearer")])

    def _find(self, key: bytes) -> tuple[str | None, int]:
        """The name of a key and its bucket. How long it takes depends on no more than whether half a hash is known."""
        digest = hashlib.sha256(key).digest()
        expected, name, place = self._keys.get(digest[:HALF], NOBODY)
        return (name, place) if compare_digest(digest, expected) and key else (None, 0)

    def _find_place(self, client: tuple[str, int] | None) -> int:
        host = client[0] if client else ""
        if ":" in host:
            host = _find_network(host)
        digest = hashlib.blake2b(host.encode(), digest_size=8, key=self._secret).digest()
        return KEYS + int.from_bytes(digest) % ADDRESSES

    def answer_preflight(self, scope: dict, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The headers that answer a browser that asks whether a page may send a request; none if it does not ask that."""
        asked = b"access-control-request-method" in headers and b"origin" in headers
        if not self._origins or not asked or scope.get("method") != "OPTIONS":
            return []
        if headers[b"origin"] not in self._origins:
            sentence = "pages of this origin may not ask; `bentoml serve --arg origins=` names those that may"
            raise RequestError(403, sentence, value=headers[b"origin"].decode("latin-1"))
        return MAY_ASK

    def name_origin(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The headers of every answer that let a page of an allowed origin read it."""
        if not self._origins:
            return []
        vary, origin = (b"vary", b"origin"), headers.get(b"origin")
        if origin not in self._origins:
            return [vary]
        exposed = b"x-request-id, retry-after"
        return [vary, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", exposed)]


class Buckets:
    """Buckets of tokens, one a client, which fill up in a second; workers share them by a file.

    Of each stands there until when its tokens are spent, in seconds of the system's clock (the generic cell rate algorithm
    of ITU-T I.371). Two workers that take one in the same microsecond may count it once.
    """

    def __init__(self, rate: int, count: int, file: Path | None):
        self._interval, self._ahead = 1 / rate, 1 - 1 / rate + 1e-6
        size = count * NUMBER
        if file:
            with open(file, "ab+") as opened:
                opened.write(bytes(max(0, size - opened.tell())))  # a hole would end the process where a disk is full
                opened.flush()
                content = mmap.mmap(opened.fileno(), size)
        else:
            content = mmap.mmap(-1, size)
        self._spent = memoryview(content).cast("d")

    def take(self, place: int) -> bool:
        """Take a token out of a bucket; False if there is none. A second later there is one again."""
        now = monotonic()
        spent = max(self._spent[place], now)
        if spent - now > self._ahead:
            return False
        self._spent[place] = spent + self._interval
        return True


def make_key(name: str) -> tuple[str, str]:
    """A new key, and its line for the key file; a UsageError for a name that cannot stand there."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name of a key: it must be letters, digits, '_', '.' and '-', such as shop-2")
    key = secrets.token_urlsafe()
    return key, f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


def read_keys(file: Path) -> dict[bytes, str]:
    """The names in a key file by their key's SHA-256; a ModelerError names every broken line, and repeats none: it may be a key."""
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ModelerError(f"the key file {file} is no text in UTF-8; {NEW_KEY}") from None
    except OSError as error:
        raise ModelerError(f"the key file {file} cannot be read: {error.strerror}; {NEW_KEY}") from None
    found, broken = {}, []
    for number, line in enumerate(lines, 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        if not (match := LINE.fullmatch(text)):
            broken.append(f"line {number} is not NAME:SHA256-HEX")
        elif (digest := bytes.fromhex(match[2])) in found:
            broken.append(f"line {number} repeats the key of {found[digest]}")
        else:
            found[digest] = match[1]
    if broken:
        raise ModelerError(f"the key file {file} cannot be used: {', '.join(broken)}; mend or remove each. {NEW_KEY}")
    if not found:
        raise ModelerError(f"the key file {file} has no key, so nobody could ask; {NEW_KEY}")
    return found


def read_origins(text: str) -> list[str]:
    """The origins in a list with commas, each as browsers send it; a ModelerError names one that they never send."""
    origins = [part.strip() for part in text.split(",")]
    for origin in origins:
        if not ORIGIN.fullmatch(origin) or DEFAULT_PORT.fullmatch(origin):
            told = "write each as a browser sends it, such as https://example.org or http://localhost:8080"
            raise ModelerError(f"--arg origins={text}: {origin!r} is no origin; {told}")
    return origins


def _read_key(scope: dict, headers: dict[bytes, bytes]) -> bytes:
    """The key of a request, or b"". Where people follow a link, it comes in a cookie that the page sets for seconds."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    if not scheme and scope.get("method") in ("GET", "HEAD"):
        for cookie in headers.get(b"cookie", b"").split(b";"):
            if cookie.strip().startswith(b"key="):
                return cookie.strip()[4:]
    return b""


def _find_network(host: str) -> str:
    """The IPv4 address that an IPv6 address stands for, or the network of its first 64 bits, which one client has alone."""
    try:
        address = IPv6Address(host)
    except ValueError:  # whatever a proxy says
        return host
    return str(address.ipv4_mapped or address.packed[:8].hex())
