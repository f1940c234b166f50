"""Clients that are slow, silent, gone or two at once: each is answered or let go; none holds up another."""

import json
import socket
import threading
import time

from reptile_np.play import server as server_module
from reptile_np.play.server import Server
from tests.play.serving import ASKED, raw, send


def test_a_body_that_ends_early_is_not_answered_as_a_question(server):
    head = (
        f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
    )
    answer = raw(server, head.encode() + b"Content-Length: 100\r\n\r\n[1, 2")
    assert answer.split()[1] == b"400"
    assert ASKED == []


def test_a_slow_client_is_let_go_and_does_not_hold_up_another(server, monkeypatch):
    monkeypatch.setattr(server_module, "SECONDS", 0.3)
    head = (
        f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as slow:
        slow.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n[")
        began = time.monotonic()
        assert send(server)[0] == 200
        assert time.monotonic() - began < 5
        answer = b""
        while not answer:
            slow.sendall(b"1,")
            time.sleep(0.05)
            slow.settimeout(0.01)
            try:
                answer = slow.recv(100)
            except TimeoutError:
                assert time.monotonic() - began < 15
        assert answer.split()[1] == b"408"
    assert ASKED == ["hello"]


def test_a_silent_client_is_let_go(server, monkeypatch):
    assert 1 <= server_module.SECONDS <= 60
    monkeypatch.setattr(server_module, "SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
        assert client.recv(1) == b""


def test_a_client_whose_headers_do_not_end_is_let_go(server, monkeypatch, capfd):
    monkeypatch.setattr(server_module, "SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=0.05) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        began, gone = time.monotonic(), False
        while not gone:
            assert time.monotonic() - began < 15
            try:
                client.sendall(b"X")
                gone = client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                gone = True
    assert capfd.readouterr().err == ""


def test_a_body_that_does_not_come_is_said(server, monkeypatch):
    monkeypatch.setattr(server_module, "SECONDS", 0.3)
    status, _, content = send(server, Content_Length="100")
    assert (status, json.loads(content)) == (408, {"error": "the request took more than 0.3 seconds"})


def test_an_answer_may_be_longer_in_the_making_than_a_request_in_arriving(server, monkeypatch):
    monkeypatch.setattr(server_module, "SECONDS", 0.3)
    server.handlers["/slow"] = lambda request: {"slept": time.sleep(0.6)}
    assert send(server, path="/slow")[0] == 200


def test_a_client_that_goes_away_leaves_no_trace(server, capfd):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # reset
            client.sendall(b"POST /echo HTTP/1.1\r\nHost:")
    assert send(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_two_clients_are_answered_at_once():
    meeting = threading.Barrier(2, timeout=10)  # passes only if both questions are being answered

    def meet(request):
        meeting.wait()
        return {"asked": request}

    with Server({"/echo": meet}) as running:
        serving = threading.Thread(target=running.serve_forever, args=(0.01,))
        serving.start()
        got = {}
        clients = [
            threading.Thread(target=lambda i=i: got.update({i: send(running, body=str(i).encode())}))
            for i in range(2)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        running.shutdown()
        serving.join()
    assert {i: json.loads(answer[2])["asked"] for i, answer in got.items()} == {0: 0, 1: 1}


def test_the_server_ends_without_waiting_for_an_answer_in_the_making():
    begun, end, made = threading.Event(), threading.Event(), []

    def slow(request):
        begun.set()
        end.wait(5)
        made.append(request)
        return {}

    with Server({"/echo": slow}) as running:
        serving = threading.Thread(target=running.serve_forever, args=(0.01,))
        serving.start()
        client = threading.Thread(target=send, args=(running,))
        client.start()
        assert begun.wait(5)
        running.shutdown()
    assert made == []
    end.set()
    client.join()
    serving.join()
