"""A server that answers with the question, and clients of it; the fixture `server` is one that runs."""

import http.client
import socket

from reptile_np.errors import UsageError

ASKED = []


def echo(request):
    if request == "refuse":
        raise UsageError("not this")
    ASKED.append(request)
    return {"asked": request}


def send(server, method="POST", path="/echo", body=b'"hello"', **headers):
    """Status, headers and body of the answer; a header whose value is None is left out."""
    values = {
        "Host": f"127.0.0.1:{server.server_port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in values.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def raw(server, data):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))
