"""A real MJPEG-over-HTTP server on loopback that misbehaves on command. Each frame tells when it was made.

The moment is in the picture itself, as 64 black or white squares, so that a test can measure the true age of what a
reader hands out, whatever the reader says of it.
"""

from __future__ import annotations

import http.server
import socketserver
import threading
import time

import cv2
import numpy as np

SQUARE = 16


def draw_moment(moment_ns: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """RGB (height, width, 3): 64 squares in the upper left corner, one a bit; grey below, with a texture."""
    rows, columns = np.indices(size)
    image = np.repeat(((rows * 7 + columns * 3) % 60 + 90).astype(np.uint8)[..., None], 3, axis=2)
    for bit in range(64):
        y, x = divmod(bit, 8)
        image[y * SQUARE : (y + 1) * SQUARE, x * SQUARE : (x + 1) * SQUARE] = 255 * (moment_ns >> bit & 1)
    return image


def read_moment(image: np.ndarray) -> int:
    """The moment, ns, that `draw_moment` wrote."""
    middles = image[SQUARE // 2 : 8 * SQUARE : SQUARE, SQUARE // 2 : 8 * SQUARE : SQUARE, 1] > 127
    return sum(1 << bit for bit, white in enumerate(middles.ravel()) if white)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def part(body: bytes, *, length: bool = True) -> bytes:
    """One part of the stream."""
    header = b"Content-Length: %d\r\n" % len(body) if length else b""
    return b"--frame\r\nContent-Type: image/jpeg\r\n" + header + b"\r\n" + body + b"\r\n"


class MjpegServer:
    """Serves frames at `fps`; `mode` may be changed at any time.

    Modes: ok, stall (silence, the connection stays), halves (every second JPEG cut in half), garbage (random bytes
    between parts), hang (no answer to a request), nolength, and whatever `size` says.
    """

    def __init__(self, *, fps: float = 25, port: int = 0) -> None:
        self.mode = "ok"
        self.size = (240, 320)
        self.fps = fps
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.content_type = "multipart/x-mixed-replace; boundary=frame"
        self._port = port
        self._server: socketserver.TCPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def start(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.headers.append(dict(self.headers))
                outer._serve(self)

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and drop every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        server = self._server
        while self.mode == "hang" and self._server is server:
            time.sleep(0.02)
        if self.mode == "404":
            handler.send_error(404)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", self.content_type)
        handler.end_headers()
        dice, number = np.random.default_rng(0), 0
        while self._server is server and server is not None:
            number += 1
            try:
                handler.wfile.write(self._bytes(number, dice))
            except OSError:
                return
            time.sleep(1 / self.fps)

    def _bytes(self, number: int, dice: np.random.Generator) -> bytes:
        if self.mode == "stall":
            return b""
        body = jpeg(draw_moment(time.monotonic_ns(), self.size))
        if self.mode == "halves" and number % 2:
            return part(body[: len(body) // 2])
        if self.mode == "lying" and number % 2:
            return part(body).replace(b"Length: ", b"Length: 1")
        if self.mode == "garbage":
            return dice.bytes(20_000) + part(body)
        if self.mode == "only garbage":
            return dice.bytes(20_000)
        return part(body, length=self.mode != "nolength")
