"""The exporter's server on real sockets: many at once, and clients that are slow, greedy, half-open or talk nonsense."""

from __future__ import annotations

import asyncio
import base64
import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

import bcrypt
import pytest

from ctobserve.errors import CtobserveError, UsageError
from ctobserve.serving import server as serving
from ctobserve.serving.basic_auth import BasicAuth, bcrypt_check
from ctobserve.serving.listening import Place, listen, listens_on
from ctobserve.serving.request import Refused, parse
from ctobserve.serving.server import CONNECTIONS, Doors, Server, Source
from ctobserve.serving.tls import Tls
from ctobserve.serving.web_config import read

LOOPBACK = Place(ip_address("127.0.0.1"), 0)
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
BIG = b"x" * (1 << 20)


class Text:
    """A page that is what was given."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def of(self, accept: str) -> tuple[str, bytes]:
        return f"text/plain; accepts={accept or 'anything'}", self._body


class Served:
    """A server of a test: where it is, how often a page was made, and what it said."""

    def __init__(self, make: Callable[[], Text], doors: Doors) -> None:
        self.made = self.looked = 0
        self.said: list[str] = []

        def count() -> Text:
            self.made += 1
            return make()

        def look() -> None:
            self.looked += 1

        self._listening = listen(LOOPBACK)
        self.port = self._listening.getsockname()[1]
        self.server = Server(self._listening, Source(count, look), doors, self.said.append)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def get(self, path: str = "/metrics", **fields: str) -> tuple[int, bytes]:
        answer, body = self.answer(path, **fields)
        return answer.status, body

    def answer(self, path: str = "/metrics", method: str = "GET", **fields: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers=fields)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body


@contextmanager
def served(make: Callable[[], Text] = lambda: Text(b"page\n"), doors: Doors = Doors()) -> Iterator[Served]:  # noqa: B008
    one = Served(make, doors)
    one.server.begin()
    try:
        yield one
    finally:
        one.server.end()
    assert one.server.failure is None


def raw(one: Served, *sent: bytes) -> bytes:
    """Everything that comes back."""
    with one.connect() as client:
        for part in sent:
            client.sendall(part)
        found = b""
        while part := client.recv(1 << 16):
            found += part
    return found


def test_a_page_is_served_in_the_form_that_the_client_takes():
    with served() as one:
        answer, body = one.answer(Accept="this/kind")
        assert (answer.status, body) == (200, b"page\n")
        assert answer.headers["Content-Type"] == "text/plain; accepts=this/kind"
        assert one.get("/metrics?x=y") == (200, b"page\n")
        answer, body = one.answer(method="HEAD")
        assert (answer.status, body, answer.headers["Content-Length"]) == (200, b"", "5")
        assert one.get("/")[0] == 200 and b"/metrics" in one.get("/")[1]
        assert one.get("/other") == (404, b"")
        answer, _ = one.answer(method="DELETE")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_connection_stays_for_the_next_scrape():
    with served() as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        places = []
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read() == b"page\n"
            places.append(connection.sock.getsockname())
        assert len(set(places)) == 1
        connection.close()
        assert raw(one, GET + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).count(b"page\n") == 2


def test_who_asks_while_a_page_is_made_shares_the_next_one():
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Text:
        begun.set()
        assert go_on.wait(20)
        return Text(b"page\n")

    with served(slow) as one, ExitStack() as opened:
        first = opened.enter_context(one.connect())
        first.sendall(GET)
        assert begun.wait(20)
        others = [opened.enter_context(one.connect()) for _ in range(17)]
        for other in others:
            other.sendall(GET)
        while sum(each.state == serving.State.ANSWER for each in one.server._connections) < 18:
            time.sleep(0.01)
        go_on.set()
        for client in (first, *others):
            assert client.recv(1 << 16).endswith(b"page\n")
        assert one.made == 2


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno field\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_what_is_no_request_is_refused_and_ends_the_connection(sent, status):
    with served() as one:
        try:
            found = raw(one, sent)
        except ConnectionResetError:  # what it had not read yet when it was cut off
            assert status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        else:
            assert found.startswith(b"HTTP/1.1 %d " % status) and b"Connection: close" in found
        assert one.get() == (200, b"page\n") and one.said == []


def test_the_head_of_a_request():
    request = parse(b"GET /metrics?a=b HTTP/1.0\r\nAccept: one\r\nACCEPT:two \r\nConnection: Keep-Alive\r\n\r\n")
    assert request == ("GET", "/metrics", {"accept": "one, two", "connection": "Keep-Alive"}, True)
    assert not parse(b"GET / HTTP/1.0\r\n\r\n").stays and parse(b"GET / HTTP/1.1\r\n\r\n").stays
    with pytest.raises(Refused):
        parse(b"\r\n\r\n")


def test_slow_half_open_and_greedy_clients_lose_their_place_to_whoever_comes():
    """As many as there are places, and more: each newcomer is answered at once."""
    with served(lambda: Text(BIG * 8)) as one, ExitStack() as opened:
        silent = [opened.enter_context(one.connect()) for _ in range(CONNECTIONS)]
        for client in silent[::2]:
            client.sendall(b"GET /met")
        for _ in range(3):
            began = time.monotonic()
            status, body = one.get()
            assert (status, len(body)) == (200, len(BIG) * 8) and time.monotonic() - began < serving.HEAD_S / 2
        greedy = [opened.enter_context(one.connect()) for _ in range(CONNECTIONS)]
        for client in greedy:
            client.sendall(GET)  # and takes nothing of what comes
        while sum(each.state == serving.State.SENDING for each in one.server._connections) < CONNECTIONS:
            time.sleep(0.01)
        held = sum(each.writer.transport.get_write_buffer_size() for each in one.server._connections)
        assert held < CONNECTIONS * 4 * serving.PIECE_BYTES
        began = time.monotonic()
        assert one.get()[0] == 200 and time.monotonic() - began < serving.HEAD_S / 2
        assert len(one.server._connections) <= CONNECTIONS
        assert one.said == []


def test_whoever_does_not_go_on_is_cut_off(monkeypatch):
    for name in ("HEAD_S", "IDLE_S", "SEND_S"):
        monkeypatch.setattr(serving, name, 0.3)
    with served(lambda: Text(BIG * 8)) as one, ExitStack() as opened:
        silent, halfway, greedy, idle = (opened.enter_context(one.connect()) for _ in range(4))
        halfway.sendall(GET[:-1])
        greedy.sendall(GET)
        idle.sendall(GET.replace(b"GET", b"HEAD"))
        while one.server._connections:
            time.sleep(0.01)
        assert silent.recv(1) == halfway.recv(1) == b""
        assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 OK") and idle.recv(1) == b""


def test_a_scrape_that_fails_is_said_once_and_the_next_may_do():
    turns = iter([OSError("gone"), OSError("gone"), None])

    def make() -> Text:
        error = next(turns)
        if error:
            raise error
        return Text(b"page\n")

    with served(make) as one:
        assert [one.get()[0] for _ in range(3)] == [500, 500, 200]
        assert one.said == ["a scrape failed: OSError: gone"]


def test_what_cannot_be_looked_at_now_is_said_once_and_looked_at_again(monkeypatch):
    monkeypatch.setattr(serving, "LOOK_S", 0.01)
    looked, said = [], []

    def look() -> None:
        looked.append(1)
        raise CtobserveError("gone")

    one = Server(listen(LOOPBACK), Source(lambda: Text(b""), look), Doors(), said.append)
    one.begin()
    while len(looked) < 3:
        time.sleep(0.01)
    one.end()
    assert (one.failure, said) == (None, ["CtobserveError: gone"])


def test_a_fault_of_ours_ends_the_server():
    def wrong() -> None:
        raise ZeroDivisionError

    one = Server(listen(LOOPBACK), Source(lambda: Text(b""), wrong), Doors(), lambda _: None)
    one.begin()
    while one.failure is None:
        time.sleep(0.01)
    one.end()
    assert isinstance(one.failure, ZeroDivisionError)


def test_where_to_listen():
    with listen(LOOPBACK) as first:
        place = listens_on(first)
        assert place.startswith("127.0.0.1:")
        with pytest.raises(CtobserveError, match=rf"cannot listen on {place}: address already in use; give another one"):
            listen(Place(ip_address("127.0.0.1"), first.getsockname()[1]))
    with listen(Place(ip_address("::1"), 0)) as other:
        assert listens_on(other).startswith("[::1]:")


HASHED = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_only_users_are_answered():
    with served(doors=Doors(guard=BasicAuth({"ann": HASHED}, bcrypt_check()))) as one:
        answer, _ = one.answer()
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="ctobserve"')
        for wrong in (basic("ann", "other"), basic("bob", "secret"), basic("ann", "sec\0ret"), "Basic %%", "Bearer x", "Basic"):
            assert one.get(Authorization=wrong) == (401, b"")
        assert one.made == 0
        assert one.get(Authorization=basic("ann", "secret")) == (200, b"page\n")


def test_a_right_password_is_known_again_and_does_not_wait_for_those_who_guess():
    checked = []

    def check(password: bytes, _: bytes) -> bool:
        checked.append(password)
        if password != b"secret":
            time.sleep(0.2)
        return password == b"secret"

    async def several() -> list[bool]:
        auth = BasicAuth({"ann": HASHED}, check)
        assert await auth.admits(basic("ann", "secret"))
        guesses = [asyncio.create_task(auth.admits(basic("ann", f"guess{n}"))) for n in range(5)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await auth.admits(basic("ann", "secret")) and time.monotonic() - began < 0.1
        return [await guess for guess in guesses[:2]]

    assert asyncio.run(several()) == [False, False]
    assert checked.count(b"secret") == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """Of a server at 127.0.0.1, an authority, and a client of its."""
    made = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=made, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9")
    for name, subject in (("server", "here"), ("renewed", "renewed"), ("ca", "ca")):
        alternative = ("-addext", "subjectAltName=IP:127.0.0.1") if name != "ca" else ()
        openssl(*new, "-subj", f"/CN={subject}", *alternative, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=client", "-keyout",
            "client.key", "-out", "client.csr")  # fmt: skip
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "9", "-out",
            "client.pem")  # fmt: skip
    for path in made.iterdir():
        path.chmod(0o600)
    return made


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    path.chmod(mode)
    return path


TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


def by_tls(one: Served, certificates: Path, client: str | None = None) -> tuple[bytes, str]:
    """The page, and who the server says it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client:
        context.load_cert_chain(certificates / f"{client}.pem", certificates / f"{client}.key")
    with one.connect() as plain, context.wrap_socket(plain) as client_socket:
        client_socket.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        found = b""
        while part := client_socket.recv(1 << 16):
            found += part
        shown = subprocess.run(
            ["openssl", "x509", "-inform", "der", "-noout", "-subject"],
            input=client_socket.getpeercert(True),
            capture_output=True,
            check=True,
        )
    return found.partition(b"\r\n\r\n")[2], shown.stdout.decode().strip()


def test_tls_with_a_certificate_that_is_renewed(certificates):
    said: list[str] = []
    tls = Tls(read(written(certificates, TLS)).tls, said.append)
    with served(lambda: Text(BIG), Doors(tls.context)) as one:
        page, subject = by_tls(one, certificates)
        assert page == BIG and subject.endswith("here")
        assert raw(one, GET) == b"", "no TLS, no answer"
        assert one.said == []
        kept = {name: (certificates / name).read_bytes() for name in ("server.pem", "server.key")}
        for name in kept:
            (certificates / name).write_bytes((certificates / name.replace("server", "renewed")).read_bytes())
        tls.refresh()
        tls.refresh()
        assert by_tls(one, certificates)[1].endswith("renewed") and said == ["the certificate was renewed"]
        (certificates / "server.key").write_text("nonsense")
        tls.refresh()
        assert by_tls(one, certificates)[1].endswith("renewed") and said[1].startswith("the certificate stays as it was: ")
        for name, content in kept.items():
            (certificates / name).write_bytes(content)


def test_only_clients_with_a_certificate_are_answered(certificates):
    config = TLS + "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\n"
    tls = Tls(read(written(certificates, config)).tls, lambda _: None)
    with served(doors=Doors(tls.context)) as one:
        assert by_tls(one, certificates, "client")[0] == b"page\n"
        for other in (None, "renewed"):
            # In TLS 1.3 a client learns it only after its handshake.
            with suppress(ssl.SSLError, ConnectionResetError):
                assert by_tls(one, certificates, other)[0] == b""
        assert one.made == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "it is no mapping"),
        ("a: [", "it is no YAML"),
        (
            "http_server_config: {http2: true}",
            "http_server_config is not supported; there are basic_auth_users, tls_server_config",
        ),
        (TLS + "  cipher_suites: []\n", "tls_server_config.cipher_suites is not supported; there are "),
        ("tls_server_config: {cert_file: a.pem}", "tls_server_config lacks key_file"),
        ("tls_server_config: {cert_file: 3, key_file: a}", "tls_server_config.cert_file is no text"),
        (TLS + "  client_auth_type: RequestClientCert\n", "client_auth_type RequestClientCert is not supported"),
        (TLS + "  client_ca_file: ca.pem\n", "client_ca_file goes with client_auth_type"),
        (TLS + "  min_version: TLS10\n", "min_version TLS10 is not supported; there are TLS12, TLS13"),
        ("basic_auth_users: {}", "basic_auth_users is no mapping"),
        ("basic_auth_users: {ann: secret}", "basic_auth_users.ann is no bcrypt hash"),
        ("basic_auth_users: {'a:b': x}", "is no name"),
        ('basic_auth_users: {"a\\x1b": x}', "basic_auth_users.a\\x1b is no bcrypt hash"),
    ],
    ids=lambda value: value[:30],
)
def test_what_a_web_config_asks_for_and_there_is_not_is_refused(tmp_path, text, says):
    with pytest.raises(UsageError) as refused:
        read(written(tmp_path, text))
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("mode", "says"), [(0o622, "others can write it"), (0o660, "others can write it")])
def test_a_web_config_that_others_can_write_is_refused(tmp_path, mode, says):
    with pytest.raises(UsageError, match=says):
        read(written(tmp_path, "", mode))


def test_files_of_a_certificate_that_are_missing_or_open_to_all_are_refused(certificates):
    config = read(written(certificates, TLS)).tls
    with pytest.raises(UsageError, match=r"nowhere\.pem: no such file"):
        Tls(config._replace(cert=certificates / "nowhere.pem"), print)
    (certificates / "server.key").chmod(0o604)
    with pytest.raises(UsageError, match=r"server\.key: everybody can read it"):
        Tls(config, print)
    (certificates / "server.key").chmod(0o600)


def test_a_web_config_may_be_empty_or_have_users_alone(tmp_path):
    assert read(written(tmp_path, "")) == (None, {})
    assert read(written(tmp_path, f"basic_auth_users:\n  ann: {HASHED}\n")).users == {"ann": HASHED}
