"""The few questions that scripts put to a Docker Engine, over its API: without a client's start-up time, and with exact times."""

import http.client
import json
import os
import re
import socket
import subprocess
import urllib.parse
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Engines from 20.10 on speak it.
VERSION = "v1.41"


class Refused(Exception):
    """What the engine answered instead."""


class Unix(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def variables():
    """The engine's address and the images, where the caller's environment does not name them: what scripts/engine knows."""
    text = subprocess.run([os.path.join(ROOT, "scripts", "engine"), "env"], capture_output=True, text=True, check=True).stdout
    known = {name: value.strip("'") for name, value in re.findall(r"^export (\w+)=(.*)$", text, re.M)}
    given = {name: os.environ.get(name) for name in ("DOCKER_HOST", "OPENBELL_TEST_IMAGE", "OPENBELL_IMAGE")}
    return known | {name: value for name, value in given.items() if value}


def installation(data):
    """What openbell calls the containers of a data folder: their label, and the beginning of their names."""
    return f"{zlib.crc32(os.fsencode(os.path.realpath(data))):08x}"


class Engine:
    def __init__(self, host):
        self.host = host
        kind, _, place = host.partition("://")
        if kind not in ("unix", "tcp"):
            raise SystemExit(f"DOCKER_HOST is {host}; this script speaks unix:///PATH and tcp://HOST:PORT")
        self.connect = (lambda t: Unix(place, t)) if kind == "unix" else (lambda t: http.client.HTTPConnection(place, timeout=t))

    def call(self, method, path, body=None, timeout=60):
        """The status and the answer; OSError if there is no engine."""
        connection = self.connect(timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/{VERSION}{path}", text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content.strip() else None
        except http.client.HTTPException as error:
            raise ConnectionError(f"the engine broke off: {error!r}") from error
        finally:
            connection.close()

    def ask(self, method, path, body=None, timeout=60):
        status, answer = self.call(method, path, body, timeout)
        if status >= 400:
            raise Refused(f"{method} {path}: {status} {(answer or {}).get('message', '')}")
        return answer

    def version(self):
        return self.ask("GET", "/version")["Version"]

    def containers(self, installation):
        """All containers of an installation, ended ones too."""
        wanted = urllib.parse.quote(json.dumps({"label": [f"openbell.installation={installation}"]}))
        return self.ask("GET", f"/containers/json?all=true&filters={wanted}", timeout=20)

    def remove(self, name):
        self.call("DELETE", f"/containers/{name}?force=true&v=true")

    def events(self, since, actions):
        """Events of containers from a time on, one after the other, for ever; OSError where the stream ends."""
        wanted = urllib.parse.quote(json.dumps({"type": ["container"], "event": actions}))
        connection = self.connect(None)
        try:
            connection.request("GET", f"/{VERSION}/events?since={since}&filters={wanted}")
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(f"the events broke off: {error!r}") from error
        finally:
            connection.close()
        raise ConnectionError("the events ended")
