"""The page's server answers its page and nobody else; a hostile request gets an error and changes nothing."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.play import server as server_module
from reptile_np.play.answers import MOST_CLASSES, MOST_EXAMPLES, MOST_POINTS, MOST_QUERIES, MOST_STROKES
from reptile_np.play.server import PAGE, Server
from tests.play.serving import ASKED, raw, send


def test_it_listens_on_the_loopback_interface_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize("path", PAGE)
def test_each_file_of_the_page_is_sent_with_its_type_and_the_policy(server, path):
    status, headers, content = send(server, "GET", path, b"")
    assert status == 200
    assert content == (Path(server_module.__file__).parent / "page" / PAGE[path][0]).read_bytes()
    assert headers["Content-Type"] == PAGE[path][1]
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    others = ("Cross-Origin-Resource-Policy", "Referrer-Policy", "Cache-Control")
    assert [headers[name] for name in others] == ["same-origin", "no-referrer", "no-store"]


def test_every_file_of_the_page_is_served_and_names_no_other_host():
    folder = Path(server_module.__file__).parent / "page"
    assert {file.name for file in folder.iterdir()} == {name for name, _ in PAGE.values()}
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|//[a-z]+\.", text), file.name


def test_a_question_is_answered(server):
    status, headers, content = send(server, body=b'{"a": [1, 2]}')
    assert (status, headers["Content-Type"], json.loads(content)) == (
        200, "application/json", {"asked": {"a": [1, 2]}},
    )  # fmt: skip


def test_the_longest_question_of_the_page_is_answered(server):
    """Its coordinates are from 0 to 1; JavaScript writes none of them with more characters."""
    server.handlers["/points"] = lambda request: {"classes": len(request["classes"])}

    def array(one, count):
        return f"[{','.join([one] * count)}]"

    point = array("0.0000012345678901234567", 2)
    drawing = array(array(point, MOST_POINTS // MOST_STROKES), MOST_STROKES)
    classes, queries = array(array(drawing, MOST_EXAMPLES), MOST_CLASSES), array(drawing, MOST_QUERIES)
    question = f'{{"classes":{classes},"queries":{queries},"transductive":false}}'
    assert send(server, path="/points", body=question.encode())[0] == 200
    assert len(question) < 3_200_000


def test_at_port_80_a_browser_leaves_out_the_port(server, monkeypatch):
    for name in ("127.0.0.1", "localhost"):
        assert send(server, Host=name, Origin=f"http://{name}")[0] == 403
    monkeypatch.setattr(server, "server_port", 80)
    for name in ("127.0.0.1", "localhost", "localhost:80"):
        assert send(server, Host=name, Origin=f"http://{name}")[0] == 200


def test_localhost_is_a_name_of_this_server_too(server):
    port = server.server_port
    assert send(server, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200


def test_an_answer_that_is_not_finite_is_an_error(server):
    server.handlers["/nan"] = lambda request: {"x": [float("nan")]}
    status, _, content = send(server, path="/nan")
    assert status == 500
    assert json.loads(content) == {
        "error": "the answer has numbers that are not finite; ask with other numbers"
    }


HOSTILE = {
    "another host": ({"Host": "evil.example"}, 403),
    "another port": ({"Host": "127.0.0.1:1"}, 403),
    "no host": ({"Host": None}, 403),
    "another origin": ({"Origin": "http://evil.example"}, 403),
    "no origin to speak of": ({"Origin": "null"}, 403),
    "another scheme": ({"Origin": "https://127.0.0.1"}, 403),
    "a form": ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    "plain text": ({"Content_Type": "text/plain"}, 415),
    "no type": ({"Content_Type": None}, 415),
    "no length": ({"Content_Length": None}, 411),
    "a negative length": ({"Content_Length": "-1"}, 411),
    "a length in words": ({"Content_Length": "many"}, 411),
    "a length in other digits": ({"Content_Length": "\u0661".encode()}, 411),
    "too long": ({"Content_Length": "4000001"}, 413),
    "far too long": ({"Content_Length": "9" * 30}, 413),
    "longer than an integer may be": ({"Content_Length": "9" * 5000}, 413),
    "chunks": ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
    "no JSON": ({"body": b"{"}, 400),
    "nothing": ({"body": b""}, 400),
    "no UTF-8": ({"body": b'"\xff\xfe'}, 400),
    "deep nesting": ({"body": b"[" * 500_000}, 400),
    "deep objects": ({"body": b'{"a":' * 200_000}, 400),
    "a number of 10,000 digits": ({"body": b"1" * 10_000}, 400),
    "what the handler refuses": ({"body": b'"refuse"'}, 400),
    "another path": ({"path": "/absent"}, 404),
    "a file by POST": ({"path": "/page.js"}, 404),
    "a full address": ({"path": "http://evil.example/echo"}, 404),
    "a query": ({"path": "/echo?x=1"}, 404),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_question_gets_an_error_and_reaches_no_handler(server, case):
    arguments, expected = HOSTILE[case]
    status, headers, content = send(server, **arguments)
    assert status == expected
    assert set(json.loads(content)) == {"error"}
    assert headers["Access-Control-Allow-Origin"] is None
    assert ASKED == []
    assert send(server)[0] == 200  # and the server goes on


@pytest.mark.parametrize(
    "path",
    ["/../server.py", "/..%2fserver.py", "/page/index.html", "//etc/passwd", "/index.html", "/%2e%2e/", "/.",
     "/\\..\\server.py", "/style.css/", "/style.css%00", "*", "/" + "a" * 60_000],
)  # fmt: skip
def test_no_other_path_leads_to_a_file(server, path):
    status, _, content = send(server, "GET", path, b"")
    assert status == 404
    assert b"error" in content


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "X" * 50]
)
def test_other_methods_are_refused(server, method):
    status, headers, _ = send(server, method)
    assert status == 501
    assert headers["Access-Control-Allow-Origin"] is None
    assert ASKED == []


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"POST /echo\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % i for i in range(200)) + b"\r\n",
     b"GET / HTTP/1.1\r\nHost: " + b"a" * 70_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_changes_nothing(server, data, capfd):
    answer = raw(server, data)
    assert b"Traceback" not in answer
    assert b"200" not in answer.split(b"\r\n")[0]
    assert ASKED == []
    assert send(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_one_line(server, capsys):
    assert main(["play", "--no-browser", "--port", str(server.server_port)]) == 2
    assert "choose another with --port" in capsys.readouterr().err
    assert main(["play", "--no-browser", "--port", "70000"]) == 2
    assert capsys.readouterr().err == "reptile-np: port 70000: give 0 to 65535\n"


@pytest.mark.parametrize("port", ["80", 1.5, -1, True, None])
def test_a_port_that_is_no_whole_number_is_refused(port):
    with pytest.raises(UsageError, match=r"^port is .*; give a whole number of at least 0$"):
        Server({}, port)


BROWSER = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status, flush=True)
except TimeoutError:
    print("no answer", flush=True)
"""


def test_a_browser_that_play_waits_for_is_answered(tmp_path):
    (tmp_path / "browser.py").write_text(BROWSER)
    browser = shlex.join([sys.executable, str(tmp_path / "browser.py"), "%s"])
    environment = {**os.environ, "BROWSER": browser}
    command = [sys.executable, "-m", "reptile_np", "play"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as play:
        try:
            assert play.stdout.readline().startswith("http://127.0.0.1:")
            assert play.stdout.readline() == "200\n"
        finally:
            play.terminate()
