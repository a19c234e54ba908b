"""HTTP: with curl as a user has it, with http.client, and with raw bytes for the bad cases."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading

from checks import check
from harness import Skip, require, rss_bytes, wait_until
from resp import Connection

BODY_BYTES_MAX = 1 << 20
JSON_TYPE = {"Content-Type": "application/json"}


def curl(*arguments, stdin=None):
    """Runs curl; returns (status, body)."""
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    done = subprocess.run(["curl", "-sS", "--max-time", "10", "-w", "\n%{http_code}", *arguments],
                          input=stdin, capture_output=True, timeout=20)
    require(done.returncode == 0, f"curl {arguments}: {done.stderr.decode()}")
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


class Client:
    """http.client on one kept connection."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)

    def ask(self, method, path, body=None, headers=None):
        """(status, body bytes, headers)."""
        if isinstance(body, (dict, list)):
            body, headers = json.dumps(body), {**JSON_TYPE, **(headers or {})}
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def expect(self, status, method, path, body=None, headers=None):
        """The body, decoded if it is JSON; the status must be that one."""
        got, text, fields = self.ask(method, path, body, headers)
        wanted = status if isinstance(status, tuple) else (status,)
        require(got in wanted, f"{method} {path}: {got} {text[:200]!r}, not {status}")
        if fields.get_content_type() == "application/json":
            value = json.loads(text)
            if got >= 400:
                require(isinstance(value, dict) and isinstance(value.get("error"), str),
                        f"{method} {path}: {text!r} is no error object")
            return value
        require(got < 400 or method == "HEAD", f"{method} {path}: {got} without a JSON error")
        return text


def raw(server, data, timeout=5.0):
    """Sends bytes and reads until the server closes or is silent; returns what came."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout) as link:
        got = b""
        try:
            link.sendall(data)
            link.settimeout(0.25)
            while piece := link.recv(1 << 16):
                got += piece
        except (socket.timeout, ConnectionError):
            pass
        return got


def statuses(data):
    """The status codes of a stream of responses."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


@check(timeout=30, shards=(1, 2), dispatch=("borrow",), only="fulmar")
def with_curl(context):
    """The commands of the README."""
    with context.serve() as server:
        base = f"http://127.0.0.1:{server.http_port}"
        post = ("-X", "POST", "-H", "Content-Type: application/json")
        status, _ = curl(*post, "-d", '{"value": "world"}', f"{base}/hello")
        require(status in (200, 201, 204), f"POST: {status}")
        require(curl(f"{base}/hello") == (200, b'{"value":"world"}')
                or json.loads(curl(f"{base}/hello")[1]) == {"value": "world"}, "GET")
        status, _ = curl(*post, "-d", '{"value": "short", "ttl": 100}', f"{base}/dying")
        require(status in (200, 201, 204), f"POST with ttl: {status}")
        with Connection(server.port) as link:
            require(link.call("GET", "hello") == b"world", "the same key over RESP")
            require(98 <= link.call("TTL", "dying") <= 100, "TTL over RESP")
            link.ok("SET", "from-resp", "x")
        require(json.loads(curl(f"{base}/from-resp")[1]) == {"value": "x"}, "RESP to HTTP")
        status, _ = curl("-X", "DELETE", f"{base}/hello")
        require(status in (200, 204), f"DELETE: {status}")
        status, body = curl(f"{base}/hello")
        require(status == 404 and "error" in json.loads(body), f"missing key: {status} {body!r}")
        status, body = curl("-X", "DELETE", f"{base}/hello")
        require(status == 404, f"DELETE of a missing key: {status}")
        # curl's default type of -d is that of a form: a page in a browser could send it.
        status, body = curl("-d", '{"value": "x"}', f"{base}/form")
        require(status == 415 and "error" in json.loads(body), f"form: {status} {body!r}")
        large = json.dumps({"value": "x" * 900_000}).encode()
        # Above 1 MiB curl asks first (Expect: 100-continue); below, with -H, it is made to.
        for extra in ((), ("-H", "Expect: 100-continue"), ("-H", "Expect:"),
                      ("-H", "Transfer-Encoding: chunked")):
            status, body = curl(*post, *extra, "--data-binary", "@-", f"{base}/large", stdin=large)
            require(status in (200, 201, 204), f"900 kB {extra}: {status} {body!r}")
            status, body = curl(f"{base}/large")
            require(len(json.loads(body)["value"]) == 900_000, "900 kB back")
        status, _ = curl("--http1.0", f"{base}/from-resp")
        require(status == 200, f"HTTP/1.0: {status}")


@check(timeout=30, shards=(1, 2), only="fulmar")
def values_and_keys(context):
    """JSON strings, percent-encoded keys, TTLs, on one kept connection."""
    with context.serve() as server, Connection(server.port) as link:
        client, ok = Client(server), (200, 201, 204)
        for key, name in (("a", b"a"), ("a%20b", b"a b"), ("%C3%BC", "\u00fc".encode()),
                          ("a%2Fb", b"a/b"), ("%00", b"\0"), ("a%25b", b"a%b"), ("a+b", b"a+b"),
                          ("%7Btag%7D1", b"{tag}1"), ("x" * 2000, b"x" * 2000)):
            client.expect(ok, "POST", "/" + key, {"value": "v of " + key[:50]})
            require(link.call("GET", name) == ("v of " + key[:50]).encode(), f"key {key[:50]}")
            require(client.expect(200, "GET", "/" + key)["value"] == "v of " + key[:50], key[:50])
            client.expect((200, 204), "DELETE", "/" + key)
            client.expect(404, "GET", "/" + key)
        for value in ("", "x", "quote \" backslash \\ slash /", "line\nbreak\ttab\r",
                      "\u00fc\u20ac", "\U0001f985", "\0", "\x1f\x7f", "</script>", "x" * 100_000):
            client.expect(ok, "POST", "/v", {"value": value})
            require(client.expect(200, "GET", "/v") == {"value": value}, f"value {value[:30]!r}")
            require(link.call("GET", "v") == value.encode(), f"value {value[:30]!r} over RESP")
        body = b'{"value": "\\ud83e\\udd85 \\u00fc \\/ \\b"}'
        client.expect(ok, "POST", "/v", body, JSON_TYPE)
        require(client.expect(200, "GET", "/v")["value"] == "\U0001f985 \u00fc / \b", "escapes")
        client.expect(ok, "POST", "/v", b'{"value": "x"}',
                      {"Content-Type": "application/json; charset=utf-8"})
        client.expect(ok, "POST", "/v", {"ttl": 100, "value": "x"})
        require(99 <= link.call("TTL", "v") <= 100, "ttl")
        client.expect(ok, "POST", "/v", {"value": "x"})
        require(link.call("TTL", "v") == -1, "no ttl")
        client.expect(ok, "POST", "/v", {"value": "x", "ttl": None})
        require(link.call("TTL", "v") == -1, "ttl of null")
        # A value that is not UTF-8 has no JSON string; whatever comes must be valid JSON.
        link.ok("SET", "binary", b"\xff\xfe\x00")
        status, text, _ = client.ask("GET", "/binary")
        json.loads(text)
        context.note(f"GET of a value that is not UTF-8: {status} {text[:100]!r}")


@check(timeout=30, shards=(1,), only="fulmar")
def client_errors(context):
    """Wrong requests get their 4xx, a JSON error, and (where possible) keep the connection."""
    with context.serve() as server:
        client = Client(server)
        for status, method, path, body, headers in (
                (404, "GET", "/none", None, {}),
                (404, "DELETE", "/none", None, {}),
                (400, "POST", "/k", "not json", JSON_TYPE),
                (400, "POST", "/k", "", JSON_TYPE),
                ((400, 422), "POST", "/k", "{}", JSON_TYPE),
                ((400, 422), "POST", "/k", "[]", JSON_TYPE),
                ((400, 422), "POST", "/k", '"x"', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": 1}', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": null}', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": "x", "ttl": -1}', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": "x", "ttl": 0}', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": "x", "ttl": "10"}', JSON_TYPE),
                ((400, 422), "POST", "/k", '{"value": "x", "ttl": 1e300}', JSON_TYPE),
                (400, "POST", "/k", '{"value": "x"', JSON_TYPE),
                (400, "POST", "/k", '{"value": "x"} trailing', JSON_TYPE),
                (400, "POST", "/k", b'{"value": "\xff"}', JSON_TYPE),
                (415, "POST", "/k", '{"value": "x"}', {"Content-Type": "text/plain"}),
                (415, "POST", "/k", '{"value": "x"}',
                 {"Content-Type": "application/x-www-form-urlencoded"}),
                (415, "POST", "/k", '{"value": "x"}', {"Content-Type": "application/jsonp"}),
                (405, "PATCH", "/k", None, {}),
                (405, "OPTIONS", "/k", None, {}),
                ((404, 405), "POST", "/-/healthz", '{"value": "x"}', JSON_TYPE),
                (404, "GET", "/-/nosuch", None, {}),
                (400, "GET", "/bad%zz", None, {}),
                (400, "GET", "/bad%2", None, {}),
                ((400, 404), "GET", "/", None, {})):
            client.expect(status, method, path, body, headers)
        with Connection(server.port) as link:
            require(link.call("DBSIZE") == 0, "a refused request stored something")
        deep = "[" * 100_000
        client.expect(400, "POST", "/k", deep, JSON_TYPE)


@check(timeout=30, shards=(1,), only="fulmar")
def foreign_hosts_are_refused(context):
    """A Host that is not this machine's (DNS rebinding) is refused, a local one is served."""
    with context.serve() as server:
        port = server.http_port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", "127.0.0.1",
                     f"LOCALHOST:{port}", f"[::1]:{port}"):
            got = statuses(raw(server, f"GET /none HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))
            require(got == [404], f"Host: {host}: {got}")
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "",
                     "localhost.evil.example", "localhost@evil.example", "evil.example#localhost"):
            got = statuses(raw(server, f"GET /none HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))
            require(got and got[0] in (400, 403, 421), f"Host: {host}: {got}")
        got = statuses(raw(server, b"GET /none HTTP/1.1\r\n\r\n"))
        require(got == [400], f"no Host: {got}")
        twice = b"Host: localhost\r\n" * 2
        got = statuses(raw(server, b"GET /none HTTP/1.1\r\n" + twice + b"\r\n"))
        require(got == [400], f"two Hosts: {got}")
        answer = raw(server, f"GET /-/healthz HTTP/1.1\r\nHost: localhost:{port}\r\n"
                             "Origin: http://evil.example\r\n\r\n".encode())
        require(b"access-control-allow-origin" not in answer.lower(), "answers other origins")


@check(timeout=40, shards=(1,), only="fulmar")
def malformed_requests(context):
    """Broken framing: a 4xx or 5xx and the end of the connection, and nothing smuggled in."""
    host = b"Host: localhost\r\n"
    head = b"POST /k HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
    body = b'{"value": "x"}'
    length = b"Content-Length: %d\r\n" % len(body)
    refused = {
        "garbage": b"\x00\x01\x02\x03\r\n\r\n",
        "no version": b"GET /k\r\n\r\n",
        "version 3": b"GET /k HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "blank in the path": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "header without a colon": b"GET /k HTTP/1.1\r\nHost: localhost\r\nbogus\r\n\r\n",
        "NUL in a header": b"GET /k HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
        "negative length": head + b"Content-Length: -1\r\n\r\n" + body,
        "length of words": head + b"Content-Length: abc\r\n\r\n" + body,
        "length with a plus": head + b"Content-Length: +14\r\n\r\n" + body,
        "length over 64 bits": head + b"Content-Length: 99999999999999999999\r\n\r\n",
        "two lengths": head + length + b"Content-Length: 5\r\n\r\n" + body,
        "length and chunks": head + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "unknown coding": head + b"Transfer-Encoding: gzip\r\n\r\n",
        "chunk of words": head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "chunk over 64 bits": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        "chunk without its end": head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
        "header over the limit": b"GET /k HTTP/1.1\r\nHost: localhost\r\nX: "
                                 + b"x" * 100_000 + b"\r\n\r\n",
        "too many headers": b"GET /k HTTP/1.1\r\n" + host + b"X: y\r\n" * 2000 + b"\r\n",
        "path over the limit": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "RESP": b"*1\r\n$4\r\nPING\r\n\r\n",
    }
    with context.serve() as server:
        for name, data in refused.items():
            got = statuses(raw(server, data))
            # A reset after a long request may have swallowed the answer.
            require(got and 400 <= got[0] <= 505 or (not got and len(data) > 50_000),
                    f"{name}: {got}")
            require(len(got) <= 1 or name in ("blank in the path",), f"{name}: {len(got)} answers")
        large = b"x" * (BODY_BYTES_MAX + 100_000)
        got = statuses(raw(server, head + b"Content-Length: %d\r\n\r\n" % len(large) + large))
        require(got == [413] or not got, f"body over the limit, sent: {got}")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        got = statuses(raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17))
        require(got == [413] or not got, f"chunked body over the limit: {got}")
        with Connection(server.port) as link:
            require(link.call("DBSIZE") == 0, "a refused request stored something")
        before = rss_bytes(server.pid)
        idle = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(100)]
        for link in idle:
            link.sendall(head + b"Content-Length: 1000000\r\n\r\n{")
        Client(server).expect(404, "GET", "/none")
        require(rss_bytes(server.pid) - before < 32 << 20, "announced bodies reserve memory")
        for link in idle:
            link.close()


@check(timeout=40, shards=(1, 2), only="fulmar")
def streams(context):
    """Keep-alive, pipelining, chunked bodies, requests cut at every byte."""
    with context.serve() as server:
        host = b"Host: localhost:%d\r\n" % server.http_port
        body = b'{"value": "piped"}'
        post = (b"POST /k HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body)
        chunked = (b"POST /c HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
                   b"Transfer-Encoding: chunked\r\n\r\n"
                   b'5;x=y\r\n{"val\r\nD\r\nue": "chunky"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n')
        get = b"GET /k HTTP/1.1\r\n" + host + b"\r\n"
        last = b"GET /none HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
        stream = post + get + chunked + get.replace(b"/k", b"/c") + last
        answer = raw(server, stream)
        got = statuses(answer)
        require(len(got) == 5 and got[1] == got[3] == 200 and got[4] == 404, f"pipelined: {got}")
        require(answer.index(b"piped") < answer.index(b"chunky"), "order")
        for cut in range(0, len(stream), 3):
            with socket.create_connection(("127.0.0.1", server.http_port), 5) as link:
                link.sendall(stream[:cut])
                link.sendall(stream[cut:])
                pieces = b""
                while piece := link.recv(1 << 16):
                    pieces += piece
            require(statuses(pieces) == got, f"cut at {cut}: {statuses(pieces)}")
        require(statuses(raw(server, get * 300 + last)) == [200] * 300 + [404], "300 pipelined")
        old = b"GET /k HTTP/1.0\r\n" + host + b"\r\n"
        answer = raw(server, old)
        require(b" 200 " in answer.split(b"\r\n")[0], f"HTTP/1.0: {answer[:100]!r}")
        head = raw(server, b"HEAD /k HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n")
        require(statuses(head)[0] in (200, 405) and (statuses(head)[0] == 405
                                                     or head.endswith(b"\r\n\r\n")), f"{head!r}")


@check(timeout=30, shards=(1, 2), only="fulmar")
def own_pages(context):
    """/-/healthz, /-/readyz, and /-/metrics as Prometheus text that adds up."""
    with context.serve() as server, Connection(server.port) as link:
        client = Client(server)
        client.expect(200, "GET", "/-/healthz")
        client.expect(200, "GET", "/-/readyz")
        for i in range(100):
            link.ok("SET", f"k{i}", "v")
        for i in range(50):
            link.ok("GET", f"k{i}")
            link.ok("GET", f"none{i}")
        # Figures of other cores may be a moment old.
        wait_until(lambda: total(metrics(client), "hits") == 50
                   and total(metrics(client), "misses") == 50, 1, "50 hits and 50 misses")
        samples = metrics(client)
        context.note(f"{len(samples)} samples, {len({name for name, _ in samples})} names")
        for word in ("evict", "memory", "doorbell", "borrow", "command"):
            require(any(word in name for name, _ in samples), f"no metric about {word}")
        # A key of that name is a key, not a page.
        client.expect((200, 201, 204), "POST", "/healthz", {"value": "a key"})
        require(client.expect(200, "GET", "/healthz") == {"value": "a key"}, "/healthz")


def metrics(client):
    """The samples of /-/metrics."""
    status, text, headers = client.ask("GET", "/-/metrics")
    require(status == 200 and headers["Content-Type"].startswith(
        ("text/plain", "application/openmetrics-text")), str(headers))
    return parse_metrics(text.decode())


def total(samples, word):
    """The sum of the samples whose name has that word."""
    return sum(value for (name, _), value in samples.items() if word in name)


def parse_metrics(text):
    """{(name, labels): value}; fails on a line that Prometheus would not take."""
    samples, types = {}, {}
    for line in text.splitlines():
        if match := re.fullmatch(r"# TYPE (\S+) (counter|gauge|histogram|summary|unknown|info)",
                                 line):
            require(match[1] not in types, f"second TYPE of {match[1]}")
            types[match[1]] = match[2]
        elif not line or line.startswith(("# HELP ", "# UNIT ", "# EOF")):
            continue
        else:
            match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)'
                                 r'(\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (\S+)', line)
            require(match, f"no metric line: {line!r}")
            key = (match[1], match[2] or "")
            require(key not in samples, f"twice: {line!r}")
            samples[key] = float(match[3])
    require(samples and types, "no metrics")
    return samples


@check(timeout=30, shards=(1, 2), only="fulmar")
def many_clients(context):
    """Eight threads on kept connections beside RESP clients: each sees its own writes."""
    failures = []

    def work(server, number):
        try:
            client = Client(server)
            for i in range(150):
                path, value = f"/t{number}-{i % 10}", f"{number}:{i}"
                client.expect((200, 201, 204), "POST", path, {"value": value})
                require(client.expect(200, "GET", path) == {"value": value}, path)
        except Exception as error:  # reported below
            failures.append(error)

    with context.serve() as server:
        threads = [threading.Thread(target=work, args=(server, i), daemon=True) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(25)
            require(not thread.is_alive(), "a thread hangs")
        if failures:
            raise failures[0]


@check(timeout=20, shards=(1,), only="fulmar")
def turned_off(context):
    """`--http-port 0` serves RESP alone."""
    with context.serve(http_port=0) as server, Connection(server.port) as link:
        require(link.call("PING") == b"PONG", "PING")


if __name__ == "__main__":
    import run
    sys.exit(run.main(module="http_curl"))
