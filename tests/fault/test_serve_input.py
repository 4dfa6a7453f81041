"""Hostile input against the running server: one clear line each, and a good request is answered afterwards."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import socket
import struct
import threading
import time
import zipfile
import zlib

import numpy as np
import psutil
import pytest
from packed import encode, noise
from PIL import Image
from workplace import PATIENCE

pytestmark = pytest.mark.fault
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
LIMITS = ("--body_mib", "4", "--rows", "64", "--pixels", "1000000", "--body_seconds", "1")


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, idat, more=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def zeros(count):
    """Compress so many zeros without holding them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(count >> 20)) + packer.flush()


def animated():
    buffer = io.BytesIO()
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def polyglot():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("run.class", b"\xca\xfe\xba\xbe")
    return encode(PIXELS, "JPEG") + buffer.getvalue()


def bad_images():
    """(name, file, statuses): built on demand, for some are large."""
    whole = encode(PIXELS, "JPEG")
    gigabyte = zeros(1 << 30)
    profile = chunk(b"iCCP", b"a\0\0" + gigabyte)
    return [
        ("truncated", whole[: len(whole) // 2], {400}),
        ("zero bytes", b"", {400}),
        ("polyglot", polyglot(), {400}),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", {400}),
        ("animated", animated(), {400}),
        ("50,000 x 50,000 pixels", png(50_000, 50_000, zlib.compress(b"")), {413}),
        ("1 GB of zeros as pixels", png(20_000, 17_895, gigabyte), {413}),
        ("1 GB of zeros as a small image's pixels", png(30, 30, gigabyte), {200, 400}),
        ("1 GB of zeros as a comment", png(30, 30, zeros(1 << 20), chunk(b"zTXt", b"a\0\0" + gigabyte)), {400}),
        ("1 GB of zeros as a colour profile", png(30, 30, zeros(1 << 20), profile), {200, 400}),
        ("text", b"../../etc/passwd", {400}),
        ("a TIFF of endless directories", b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0", {400}),
    ]  # fmt: skip


BODIES = [
    ("no base64", {"inputs": [{"image": "%%%"}]}, {400}),
    ("a unicode bomb", {"inputs": [{"image": "\ufdfa" * 100_000}]}, {400}),
    ("lone surrogates", {"inputs": [{"image": "\ud800\udfff" * 1000}]}, {400}),
    ("null bytes", {"inputs": [{"image": "\0" * 1000}]}, {400}),
    ("wrong columns", {"dataframe_split": {"columns": ["picture"], "data": [["x"]]}}, {400}),
    ("a path", {"inputs": [{"image": "../../../../etc/passwd"}]}, {400}),
    ("a URI", {"inputs": [{"image": "file:///etc/passwd"}]}, {400}),
    ("10,000 rows", {"inputs": {"image": ["QUJD"] * 10_000}}, {413}),
    ("a huge number", {"inputs": [{"image": ""}], "params": {"top_k": 10**400}}, {400}),
    ("NaN", b'{"inputs": [{"image": NaN, "age": NaN}]}', {400}),
    ("nesting", b'{"inputs":' + b"[" * 500_000, {400}),
    ("no UTF-8", b'{"inputs": "\xff\xfe"}', {400}),
    ("a body that is too long", b" " * (5 << 20), {413}),
]


def check_good(caller):
    reply = caller.ask(noise()[0])
    assert reply.status == 200, reply.body


def test_every_bad_input_gets_one_line_and_the_server_answers_on(serve):
    process, caller = serve(*LIMITS)
    check_good(caller)
    memory = psutil.Process(process.pid)
    before = memory.memory_info().rss
    for name, body, statuses in BODIES:
        reply = caller.post(body)
        assert reply.status in statuses, (name, reply)
        assert len(reply.line) < 200, name
    for name, image, statuses in bad_images():
        reply = caller.ask(image)
        assert reply.status in statuses, (name, reply.status, reply.body[:200])
        if reply.status != 200:
            assert reply.line.startswith("row 0: image"), name
    # A gigabyte that was ever held would show.
    assert memory.memory_info().rss - before < 400 << 20
    squeezed = gzip.compress(json.dumps({"inputs": [{"image": ""}]}).encode())
    assert caller.post(squeezed, **{"Content-Encoding": "gzip"}).status == 415
    assert caller.post(b"image\n", **{"Content-Type": "text/csv"}).status == 415
    check_good(caller)
    assert process.poll() is None
    assert "Traceback" not in process.err.read_text()


def until_closed(connection):
    """Read until the server closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def send_on(connection):
    """Send until the other side no longer takes it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        connection.sendall(b" " * 1000)
        time.sleep(0.001)


HEAD = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def test_slow_and_broken_callers(serve):
    _, caller = serve(*LIMITS, "--arriving", "3", patch="import dermonas.serving.rest.listen as l; l._HEADERS = 1.0")
    with caller.socket() as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b"{")
        said = until_closed(slow)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"the body did not arrive within 1 s" in said
    with caller.socket() as mute:
        mute.sendall(b"POST /invoc")
        assert until_closed(mute) == b""
    with caller.socket() as garbage:
        garbage.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" * 20 + b"\r\n\r\n")
        assert until_closed(garbage).startswith(b"HTTP/1.1 400 ")
    with caller.socket() as gone:
        gone.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b"{")
    with caller.socket() as endless:  # a body without an end, refused at its length and heard out for a moment
        endless.sendall(HEAD + b"Content-Length: 100000000000\r\n\r\n")
        endless.settimeout(PATIENCE)
        assert endless.recv(65536).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(OSError):
            send_on(endless)
    waiting = [caller.socket() for _ in range(3)]
    for one in waiting:
        one.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
    end = time.monotonic() + PATIENCE
    while (reply := caller.ask(noise()[0])).status != 429:  # once all three are seen
        assert time.monotonic() < end
    assert "too many requests" in reply.line
    for one in waiting:
        assert until_closed(one).startswith(b"HTTP/1.1 400 ")
        one.close()
    check_good(caller)


def test_more_connections_than_the_limit_are_told_and_let_go(serve):
    _, caller = serve("--connections", "4")
    idle = [caller.socket() for _ in range(4)]
    with caller.socket() as fifth:
        head, _, body = until_closed(fifth).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert json.loads(body)["message"] == "too many connections: try again"
    for one in idle:
        one.close()
    end = time.monotonic() + PATIENCE
    while (reply := caller.get("/ping")).status != 200:  # once it has seen them go
        assert reply.status == 429
        assert time.monotonic() < end
    check_good(caller)


def mixed(seed, count):
    """Good and bad bodies in a drawn order, with the status that each must have."""
    images, draw = noise(), random.Random(seed)
    texts = [base64.b64encode(image).decode() for image in images]
    bad = [
        ({"inputs": [{"image": "%%%"}]}, 400),
        ({"inputs": [{"image": texts[1][:400]}]}, 400),
        ({"inputs": [{"image": base64.b64encode(png(50_000, 50_000, b"")).decode()}]}, 413),
        ({"inputs": {"image": ["QUJD"] * 500}}, 413),
        ({"inputs": []}, 400),
        ({"inputs": [{"image": texts[0]}, {"image": ""}]}, 400),
    ]
    for _ in range(count):
        if draw.random() < 0.5:
            chosen = draw.choices(texts, k=draw.choice((1, 1, 1, 4)))
            yield {"inputs": {"image": chosen}, "params": {"cam": draw.random() < 0.2}}, 200
        else:
            yield draw.choice(bad)


def test_500_mixed_requests_of_8_clients_without_5xx_or_growth(serve):
    process, caller = serve(*LIMITS)
    memory, wrong = psutil.Process(process.pid), []

    def ask(seed, count):
        for body, status in mixed(seed, count):
            reply = caller.post(body)
            if reply.status != status:
                wrong.append((status, reply.status, reply.body[:200]))

    def all_clients(first, count):
        clients = [threading.Thread(target=ask, args=(first + number, count)) for number in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(PATIENCE)
        assert not any(client.is_alive() for client in clients)

    all_clients(100, 40)  # the pools and arenas that 8 callers need
    before = memory.memory_info().rss
    all_clients(0, 63)  # 504 requests
    growth = memory.memory_info().rss / before - 1
    assert wrong == []
    assert growth < 0.10
    check_good(caller)


def test_a_connection_is_kept_for_several_requests(serve):
    _, caller = serve()
    body = json.dumps({"inputs": [{"image": base64.b64encode(noise()[0]).decode()}]}).encode()
    with caller.socket() as kept:
        kept.settimeout(PATIENCE)
        for content in (body, b"{}", body):
            kept.sendall(HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
            said = b""
            while b"\r\n\r\n" not in said:
                said += kept.recv(65536)
            head, _, rest = said.partition(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            while len(rest) < length:
                rest += kept.recv(65536)
            assert head.startswith(b"HTTP/1.1 200" if content is body else b"HTTP/1.1 400")
        kept.shutdown(socket.SHUT_WR)
