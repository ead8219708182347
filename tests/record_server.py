"""A tenant's record source on loopback, honest or not, over real HTTP or HTTPS.

`with RecordServer(records) as server:` answers `records` to signed requests; `server.source()` is where to ask, and
`server.asked` what was asked. Give an `Answer` instead of records to misbehave. Certificates are made on the spot.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cascade.record_source import RecordSource

SECRET = b"a secret that both sides know"


@dataclass(frozen=True)
class Answer:
    """What the server says. `pieces` are sent one by one, `pause` seconds apart."""

    pieces: Iterable[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0

    @classmethod
    def of(cls, value: Any, **kwargs: Any) -> Answer:
        return cls([json.dumps(value).encode()], **kwargs)


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes


class RecordServer:
    """One record source. `answer`: records, an Answer, or a function from the request to an Answer."""

    def __init__(
        self, answer: Sequence[dict[str, Any]] | Answer | Callable[[Asked], Answer], certificate: Path | None = None
    ) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        if certificate:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme, self.port = "https" if certificate else "http", self._http.server_port

    def source(self, host: str = "127.0.0.1", **changes: Any) -> RecordSource:
        url = f"{self.scheme}://{host}:{self.port}/records"
        return RecordSource(**{"url": url, "secret": SECRET, "allow_private": True, **changes})

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(server: RecordServer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
                server.asked.append(asked)
                self._say(server._answer_to(asked))

            def _say(self, answer: Answer) -> None:
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in answer.pieces:
                        self.wfile.write(piece)
                        self.wfile.flush()
                        time.sleep(answer.pause)
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    pass  # the other side had enough

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer_to(self, asked: Asked) -> Answer:
        if callable(self.answer):
            return self.answer(asked)
        return self.answer if isinstance(self.answer, Answer) else Answer.of({"records": list(self.answer)})


def record(external_id: str = "A-1", **changes: Any) -> dict[str, Any]:
    """A record as a source sends it."""
    moment = datetime.now(UTC).isoformat()
    return {"type": "order", "external_id": external_id, "as_of": moment, "data": {"status": "shipped"}, **changes}


def make_certificate(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for names and addresses, and a context that trusts it alone."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path = folder / f"{names[0]}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path, ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
