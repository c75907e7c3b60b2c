#!/usr/bin/env python3
"""A step of openbell: asks addresses of the web whether they answer, a few times, and returns how long each took.

Environment: PROBE_URLS, separated by blanks; PROBE_ROUNDS (default 3), PROBE_PAUSE between rounds in seconds (default 1).
"""

import json
import os
import pathlib
import signal
import sys
import time
import urllib.request
from datetime import datetime, timezone

folder = pathlib.Path(os.environ["OPENBELL_FOLDER"])
asked_to_stop = False


def write(name, value):
    """Replaces a file of the attempt: who reads it meanwhile finds the old text or the new one, never half of it."""
    part = folder / (name + ".part")
    part.write_text(json.dumps(value))
    part.replace(folder / name)


def stop(*_):
    global asked_to_stop
    asked_to_stop = True


def deadline():
    """Seconds until this program must have ended by itself; None if nobody set a time."""
    text = os.environ.get("OPENBELL_DEADLINE")
    if not text:
        return None
    # RFC 3339. Digits after the sixth of the second are more than datetime takes.
    head, _, fraction = text.rstrip("Z").partition(".")
    at = datetime.fromisoformat(head + "." + (fraction + "000000")[:6]).replace(tzinfo=timezone.utc)
    return (at - datetime.now(timezone.utc)).total_seconds()


def ask(url):
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            answer.read(1)
    except OSError as error:
        return None, str(error)
    return round((time.monotonic() - began) * 1000), None


def main():
    urls = os.environ.get("PROBE_URLS", "").split()
    if not urls:
        print("PROBE_URLS is empty; set it to the addresses to ask, separated by blanks", file=sys.stderr)
        return 2
    rounds = int(os.environ.get("PROBE_ROUNDS", "3"))
    pause = float(os.environ.get("PROBE_PAUSE", "1"))
    left = deadline()
    until = None if left is None else time.monotonic() + left

    taken = {url: [] for url in urls}
    for number in range(1, rounds + 1):
        failed = []
        for url in urls:
            duration_ms, error = ask(url)
            # What is printed is the step's output. Without the flush it would appear when the program ends.
            print(f"round {number}: {url}: {f'{duration_ms} ms' if error is None else error}", flush=True)
            (failed if error else taken[url]).append(url if error else duration_ms)
        write(
            "status.json",
            {
                "ready": True,
                "degraded": f"{len(failed)} of {len(urls)} addresses did not answer" if failed else None,
                "facts": {"round": number, "rounds": rounds},
            },
        )
        over = until is not None and time.monotonic() + pause > until
        if asked_to_stop or over or number == rounds:
            break
        time.sleep(pause)

    write("result.json", {"stopped": asked_to_stop, "answers_ms": taken})
    return 0 if all(taken.values()) else 1


signal.signal(signal.SIGTERM, stop)
sys.exit(main())
