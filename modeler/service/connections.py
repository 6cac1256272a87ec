"""Ends connections whose client is slow or sends too much, and answers on them what is no request.

It comes before uvicorn's class of connections (see `limit_connections` of `modeler/inside.py`) and relies on that one's
attributes. By itself, uvicorn waits for ever: for a first byte, for the rest of a head, for that of a body it has answered already,
and for a client that does not read. With each part of a header it copies what came before: 100 MB of one took 18 s, in which nothing
else was answered.
"""

HEAD_BYTES = 64 * 1024  # a request line and headers may have; of those that come at once, up to 256 KiB more
IDLE_SECONDS = 75  # after an answer; longer than the 60 s after which proxies drop a connection: who drops it first loses no request
HEAD_SECONDS = 10  # in which a connection's first byte, and then a whole head, must have arrived
UNREAD_SECONDS = 30  # in which a client must have taken some of its answer


class LimitedConnection:
    """A connection with limits. `refuse` makes what is sent of a status and a sentence."""

    refuse = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.timeout_keep_alive = IDLE_SECONDS
        self._awaited, self._since, self._size = None, self.loop.time(), 0
        self._running = self._unread = None
        self._await()

    def connection_lost(self, exc):
        if self._running:
            self._running.disconnected = True  # uvicorn tells the last request, which may still wait behind this one
        if self._unread:
            self._unread.cancel()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle, app):
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data):
        super().data_received(data)
        cycle, scope = self.cycle, self.scope
        idle, in_head = cycle is None or cycle.response_complete, cycle is None or cycle.scope is not scope
        if not (idle or in_head) or self.transport.is_closing():
            return  # as nearly always: a whole head has come
        if self._awaited and self._awaited[0] is scope and self._awaited[1] == in_head:
            self._size += len(data)
        else:  # what came before may belong to another request
            self._awaited, self._since, self._size = (scope, in_head), self.loop.time(), 0
        if in_head and self._size > HEAD_BYTES:
            self._end(431, f"the request line and headers are too large; send at most {HEAD_BYTES} bytes", idle)
        elif idle:
            self._await()

    def _await(self):
        """Give up in time; uvicorn itself stops this timer, which is its own for idle connections, at each byte."""
        left = self._since + HEAD_SECONDS - self.loop.time()
        self.timeout_keep_alive_task = self.loop.call_later(max(0, left), self._give_up)

    def _give_up(self):
        began = self._awaited is not None and self._awaited[1]  # a browser connects in advance, and is told nothing
        self._end(408, f"the request line and headers did not arrive within {HEAD_SECONDS} seconds", began)

    def _end(self, status, sentence, told=True):
        if not self.transport.is_closing():
            if told:
                self.transport.write(self.refuse(status, sentence))
            self.transport.close()

    def send_400_response(self, msg):
        self._end(400, "this is no HTTP request that can be read")

    def handle_websocket_upgrade(self, *_):
        """Refuse here; uvicorn would answer a wrong WebSocket by itself."""
        self._end(400, "this is no WebSocket; /docs.json lists the routes and their methods")

    def pause_writing(self):
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self):
        super().resume_writing()
        if self._unread:
            self._unread.cancel()
