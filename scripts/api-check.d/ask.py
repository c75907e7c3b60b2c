"""Small questions of scripts/api-check to a daemon. Needs nothing but Python."""

import json
import os
import re
import sys
import urllib.error
import urllib.request


def call(url, token_file, path, body=None):
    request = urllib.request.Request(f"{url}/api/v1{path}", headers={"x-openbell": "1"})
    if token_file:
        with open(token_file, encoding="ascii") as file:
            request.add_header("authorization", f"Bearer {file.read().strip()}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


def url_of(data):
    with open(os.path.join(data, "daemon.json"), encoding="utf-8") as file:
        return json.load(file)["url"]


def enough(data):
    url = url_of(data)
    letters = call(url, "", "/dead-letters")["topics"]
    symbols = call(url, "", "/market")["symbols"]
    alerts = call(url, "", "/alerts")["alerts"]
    return bool(letters and letters[0]["letters"] and symbols and alerts)


def ready(url, token_file):
    return bool(call(url, token_file, "/topics")["topics"] and call(url, token_file, "/market")["symbols"])


def prepare(url, token_file, target):
    """The daemon's own document, with what is really there as examples, so that random requests meet something."""
    ask = lambda path, body=None: call(url, token_file, path, body)
    document = ask("/openapi.json")
    if token_file:
        # With users nothing is open.
        document["security"] = [one for one in document["security"] if one]
    # Something to act on, beside the day.
    names = [dag["name"] for dag in ask("/dags")["dags"]]
    if "api-check" in names:
        ask("/runs", {"dag": "api-check"})
    runs = ask("/runs?limit=50")["runs"]
    run = next((r["id"] for r in runs if r["dag"] != "api-check"), runs[0]["id"] if runs else None)
    small = next((r["id"] for r in runs if r["dag"] == "api-check"), run)
    letters = ask("/dead-letters")["topics"]
    letters = [t["topic"] for t in letters if t["letters"]]
    topic = letters[0] if letters else None
    letter = ask(f"/dead-letters/{topic}?limit=1")["letters"][0] if topic else {}
    symbols = ask("/market?limit=1")["symbols"]
    dag = "api-check" if "api-check" in names else (names or [None])[0]
    steps = sorted(ask(f"/runs/{run}")["run"]["steps"]) if run else []
    step = "collector" if "collector" in steps else (steps or [None])[0]
    values = {
        "name": dag,
        "id": run,
        "step": step,
        "topic": topic,
        "partition": letter.get("partition"),
        "offset": letter.get("offset"),
        "symbol": symbols[0]["name"] if symbols else None,
    }

    def example(path, method, parameter):
        name = parameter["name"]
        value = values.get(name)
        if path.startswith("/topics/"):
            value = topic if name == "name" else value
        elif method == "post" and name == "id":
            value = small
        if parameter["in"] == "path" and value is not None:
            parameter["example"] = value

    shared = document["components"]["parameters"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            own = []
            for parameter in operation.get("parameters", []):
                reference = parameter.get("$ref")
                parameter = dict(shared[reference.rsplit("/", 1)[1]]) if reference else parameter
                example(path, method, parameter)
                own.append(parameter)
            if own:
                operation["parameters"] = own
    bodies = {
        "/runs": {"dag": dag},
        "/runs/{id}/clear": {"steps": ["hello"]},
        "/runs/{id}/mark": {"step": "hello", "success": True},
        "/alerts/test": {"dag": dag},
        "/dead-letters/replay": {"topic": topic, "partition": letter.get("partition"), "offset": letter.get("offset")},
    }
    for path, body in bodies.items():
        if None not in body.values():
            document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"] = body
    with open(target, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return True


def events(url, token_file):
    """GET /events: a stream whose first event is a start, and which goes on after an id that it gave."""

    def first(last_id=None):
        request = urllib.request.Request(f"{url}/api/v1/events")
        if token_file:
            with open(token_file, encoding="ascii") as file:
                request.add_header("authorization", f"Bearer {file.read().strip()}")
        if last_id:
            request.add_header("last-event-id", last_id)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as stream:
            kind, event = stream.headers["content-type"], {}
            while "event" not in event or "data" not in event:
                name, _, value = stream.readline().decode().rstrip("\n").partition(": ")
                event[name] = value
        # A beat says nothing.
        if event["event"] != "beat":
            json.loads(event["data"])
        return kind, event

    kind, event = first()
    if kind != "text/event-stream" or event["event"] != "start" or not event.get("id"):
        print(f"GET /events began with {kind} {event}")
        return False
    _, again = first(event["id"])
    if again["event"] in ("start", "reset"):
        print(f"GET /events did not go on after its own id, but with {again}")
        return False
    return True


def alive(url, token_file):
    return bool(call(url, token_file, "/snapshot")["now"])


def down(url, token_file):
    """POST /down by itself: its refusals, and then its answer."""
    try:
        call(url, token_file, "/down", {"drain": "yes"})
        print("POST /down took a drain that is no boolean")
        return False
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        if error.code != 400 or problem["type"] != "urn:openbell:problem:bad-body":
            print(f"POST /down answered {error.code} {problem} to a drain that is no boolean")
            return False
    # Drained: services of the runs would live on, and write where the next check begins.
    return "message" in call(url, token_file, "/down", {"drain": True})


def figures(log, name):
    with open(log, encoding="utf-8") as file:
        text = file.read()
    find = lambda pattern: (re.search(pattern, text) or [None, "0"])[1]
    tested, cases = find(r"Tested: (\d+)"), find(r"(\d+) generated")
    unique = find(r"(\d+) unique failures?")
    errors = find(r"=+ .*?(\d+) errors?\b")
    seconds = find(r" in ([0-9.]+)s =")
    print(f"== {name}: {tested} operations, {cases} requests, {unique} findings, {errors} errors, {seconds} s")
    return True


def main():
    task, *rest = sys.argv[1:]
    if task == "url":
        print(url_of(*rest))
        return 0
    tasks = {"enough": enough, "ready": ready, "prepare": prepare, "events": events, "alive": alive, "down": down, "figures": figures}
    return 0 if tasks[task](*rest) else 1


if __name__ == "__main__":
    sys.exit(main())
