"""Two witnesses of which containers of an installation lived when: the engine's events, and the machine's list of processes."""

import collections
import os
import re
import threading
import time

import api

# Between two looks at the machine's processes.
LOOK_EVERY = 0.1

Event = collections.namedtuple("Event", "at what step attempt")


class Events:
    """Starts and ends of an installation's containers, by the engine's stamps; goes on after the engine was away."""

    def __init__(self, engine, installation):
        self.engine, self.installation = engine, installation
        self.found, self.keys, self.outages = [], set(), 0
        self.over = threading.Event()
        self.since = f"{time.time():.9f}"
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while not self.over.is_set():
            try:
                for event in self.engine.events(self.since, ["start", "die"]):
                    self.take(event)
            except OSError:
                self.outages += 1
                self.after_an_outage()

    def take(self, event):
        labels = event["Actor"]["Attributes"]
        self.since = f"{event['timeNano'] // 10**9}.{event['timeNano'] % 10**9:09}"
        if labels.get("openbell.installation") == self.installation:
            self.note(event["timeNano"] / 1e9, event["Action"], event["Actor"]["ID"], labels)

    def note(self, at, what, identity, labels):
        # The engine tells events of the same moment again.
        key = (identity, what, at)
        if key not in self.keys:
            self.keys.add(key)
            step = f"{labels['openbell.run']} {labels['openbell.step']}"
            self.found.append(Event(at, what, step, int(labels["openbell.attempt"])))

    def after_an_outage(self):
        """An engine that died forgot its events: what runs is asked of it, and what ran and does not is taken to have ended just now."""
        while not self.over.is_set():
            try:
                listed = self.engine.containers(self.installation)
                break
            except (OSError, api.Refused):
                time.sleep(0.02)
        else:
            return
        running = {(c["Labels"]["openbell.run"] + " " + c["Labels"]["openbell.step"], int(c["Labels"]["openbell.attempt"]))
                   for c in listed if c["State"] in ("running", "paused", "restarting")}  # fmt: skip
        now = time.time()
        for step, attempt in self.alive() - running:
            self.found.append(Event(now, "unseen end", step, attempt))

    def alive(self):
        alive = set()
        for event in sorted(self.found):
            (alive.add if event.what == "start" else alive.discard)((event.step, event.attempt))
        return alive

    def overlaps(self):
        """Steps of which a container started while another one of them ran."""
        alive, found = collections.defaultdict(set), []
        for event in sorted(self.found):
            living = alive[event.step]
            if event.what == "start":
                found += [f"{event.step}: attempt {event.attempt} started while attempt {other} ran" for other in living]
                living.add(event.attempt)
            else:
                living.discard(event.attempt)
        return found

    def starts(self):
        return [(event.step, event.attempt) for event in self.found if event.what == "start"]

    def end(self):
        self.over.set()


class Processes:
    """Built-in steps by their command lines: the only witness while no engine answers. Sees nothing of an engine on another machine."""

    def __init__(self, data):
        self.pattern = re.compile(re.escape(os.path.realpath(data)) + r"/runs/([^/]+)/([^/]+)/(\d+)/?$")
        self.looks, self.most, self.twice = 0, 0, set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look_again, daemon=True)
        self.thread.start()

    def look_again(self):
        while not self.over.wait(LOOK_EVERY):
            self.look()

    def look(self):
        living = collections.defaultdict(set)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if found := self.step_of(pid):
                living[found[0]].add((found[1], pid))
        self.looks += 1
        self.most = max(self.most, sum(map(len, living.values())))
        for step, attempts in living.items():
            # One may have ended, and the next begun, while the list was read.
            if len(attempts) > 1 and all(self.step_of(pid) for _, pid in attempts):
                self.twice.add(f"{step}: processes of attempts {', '.join(str(a) for a, _ in sorted(attempts))} at once")

    def step_of(self, pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).rstrip("\0").split("\0")
        except OSError:
            return None
        found = self.pattern.search(words[3]) if len(words) == 4 and words[1:3] == ["step", "--folder"] else None
        return (f"{found[1]} {found[2]}", int(found[3])) if found else None

    def end(self):
        self.over.set()
