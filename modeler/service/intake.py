"""Takes in the bodies of requests, within limits of size, of time, and of what all requests together keep in memory."""

import asyncio

from modeler.service.body import RequestError, find_refusal, refuse_size

LARGE_BODY = 8 * 1024  # bytes from which a body is answered in a thread, so that small requests need not wait
BODY_SECONDS = 30  # in which a body must have arrived
DRAIN_SECONDS = 3  # of reading the body of a refused request: a client sees no answer while it is sending
HELD_BODIES = 10  # of the largest size: so much of large bodies and answers is kept at once


class ClientGone(Exception):
    """The client closed the connection before its request had arrived."""


class Intake:
    """Reads bodies of at most `max_body` bytes, and knows how much is kept of large ones and of large answers."""

    def __init__(self, max_body: int):
        self.max_body, self._held = max_body, 0

    def hold(self, scope, size: int) -> None:
        """Note that a request keeps so many bytes of its body or answer; if all keep too many, a RequestError refuses it.

        What is small never has to wait for room.
        """
        if size > LARGE_BODY:
            self._held += size - scope.get("held", 0)
            scope["held"] = size
            if self._held > HELD_BODIES * self.max_body:
                self.release(scope)
                sentence = "too many large requests are under way; send this one again in a moment"
                raise RequestError(503, sentence, headers=[(b"retry-after", b"1")])

    def release(self, scope) -> None:
        """Note that a request keeps nothing any more."""
        self._held -= scope.pop("held", 0)

    async def read(self, scope, receive, headers: dict[bytes, bytes]) -> bytes:
        """Read a body. Of a refused request, read on for a while and keep nothing, unless the client waits."""
        refusal = find_refusal(headers, self.max_body)
        if refusal and b"expect" in headers:
            raise refusal
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(DRAIN_SECONDS if refusal else BODY_SECONDS) as limit:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    more, body = message.get("more_body", False), message.get("body", b"")
                    size += len(body)
                    if refusal is None and (refusal := self._find_refusal(scope, size)):
                        parts.clear()
                        limit.reschedule(asyncio.get_running_loop().time() + DRAIN_SECONDS)
                    if refusal is None:
                        parts.append(body)
        except TimeoutError:
            refusal = refusal or RequestError(408, f"the body did not arrive within {BODY_SECONDS} seconds")
        if refusal:
            raise refusal
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _find_refusal(self, scope, size: int) -> RequestError | None:
        if size > self.max_body:
            self.release(scope)
            return refuse_size(self.max_body)
        try:
            self.hold(scope, size)
        except RequestError as refusal:
            return refusal
        return None
