"""Measures of the status page: what many viewers cost, and how long pages of a long history take."""

import asyncio
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

PATIENCE = 300
TICKS = os.sysconf("SC_CLK_TCK")


# --- a running demo day ---------------------------------------------------------------------------------------------------


class Day:
    """A day of the demo. It races to `at` of its own time, is stopped there, and goes on at the speed that is measured."""

    def __init__(self, binary, at, speed, say):
        self.binary, self.say = binary, say
        self.folder = tempfile.mkdtemp(prefix="openbell-bench-")
        self.log = os.path.join(self.folder, "log")
        self.process = None
        say(f"   a demo day runs to {at}")
        self.start(600)
        self.until(lambda: self.local_time() >= at, "the day does not get there")
        self.stop()
        say(f"   and goes on at speed {speed}")
        self.start(speed)
        self.until(lambda: self.snapshot()["speed"] == speed, "it does not come to its speed")

    def start(self, speed):
        command = [self.binary, "demo", "--quiet", "--speed", str(speed), "--port", "0", "--data", os.path.join(self.folder, "data")]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.address = self.until(self.find, "it did not come up")

    def find(self):
        try:
            with open(os.path.join(self.folder, "data", "daemon.json"), encoding="utf-8") as file:
                note = json.load(file)
            if note["pid"] != self.process.pid:
                return None
            urllib.request.urlopen(f"{note['url']}/readyz", timeout=5).close()
            host, port = note["url"].split("//")[1].split(":")
            return host, int(port)
        except (OSError, ValueError):
            return None

    def until(self, look, what):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if found := look():
                return found
            time.sleep(0.02)
        with open(self.log, encoding="utf-8") as log:
            raise SystemExit(f"the demo: {what}:\n{log.read()[-2000:]}")

    def snapshot(self):
        with urllib.request.urlopen(f"http://{self.address[0]}:{self.address[1]}/api/v1/snapshot", timeout=30) as answer:
            return json.load(answer)

    def local_time(self):
        # Seoul has no summer time.
        hour, rest = self.snapshot()["now"].split("T")[1].split(":", 1)
        return f"{(int(hour) + 9) % 24:02}:{rest}"[:8]

    def cpu(self):
        """Seconds of CPU that the process has used, in its own code and in the system's."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def scheduled(self):
        """The same by the scheduler's own clock, which counts what falls between two ticks; None where the system does not keep it."""
        total, tasks = 0, f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            try:
                with open(f"{tasks}/{task}/schedstat", encoding="utf-8") as file:
                    total += int(file.read().split()[0])
            except (OSError, ValueError, IndexError):
                continue
        return total / 1e9 or None

    def memory_mb(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="utf-8") as file:
            return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


# --- viewers --------------------------------------------------------------------------------------------------------------


class Viewers(threading.Thread):
    """Connections that read a live page each, as browsers do."""

    def __init__(self, address, paths):
        super().__init__(daemon=True)
        self.address, self.paths = address, paths
        self.events = self.bytes = self.open = 0
        self.failed = []
        self.loop = asyncio.new_event_loop()

    def run(self):
        self.loop.run_until_complete(self.all())

    async def all(self):
        self.ended = asyncio.Event()
        tasks = [asyncio.create_task(self.one(path)) for path in self.paths]
        await self.ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def one(self, path):
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {self.address[0]}\r\naccept: text/event-stream\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                self.failed.append(f"{path}: {head.split(bytes([13]))[0].decode()}")
                return
            self.open += 1
            while chunk := await reader.read(1 << 16):
                self.bytes += len(chunk)
                self.events += chunk.count(b"event: fragments")
            self.failed.append(f"{path}: the stream ended")
        finally:
            writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.ended.set)
        self.join(30)


def mix(run, dag, count):
    """Most people look at the day."""
    run = run.replace("+", "%2B")
    pages = ["page=today"] * 8 + ["page=dags"] * 4 + [f"page=run&run={run}"] * 4 + [f"page=dag&dag={dag}"] * 2 + ["page=alerts", "page=audit"]
    return [f"/events?{pages[n % len(pages)]}" for n in range(count)]


def viewers(options, binary, say):
    """what 200 live viewers cost a daemon that runs a demo day, in % of one core"""
    rows = []
    for speed in options.speeds:
        day = Day(binary, "10:00:00", speed, say)
        try:
            run = day.snapshot()["runs"][0]["run"]["id"]
            rows.append(looks(day, mix(run, run.split("@")[0], options.viewers), options, speed, say))
        finally:
            day.close()
    notes = [
        f"CPU of the process (user and system), by turns: nobody looks in {options.turns + 1} looks of {options.seconds} s, all of them in the {options.turns} between",
        "cost: mean of the watched looks, less that of the others; by the scheduler: the same by its own clock",
        "pages: of twenty viewers eight look at Today, four at the DAGs, four at the run, two at its DAG, one at alerts, one at the audit",
    ]
    return {"table": rows, "facts": {}, "notes": notes}


def looks(day, paths, options, speed, say):
    """The CPU while nobody looks and while all do, by turns: what the day and the machine do meanwhile hits both alike."""
    exact = {False: [], True: []}
    ticks = {False: [], True: []}
    events = received = 0
    memory = {}
    for turn in range(2 * options.turns + 1):
        watched = turn % 2 == 1
        crowd = None
        if watched:
            crowd = Viewers(day.address, paths)
            crowd.start()
            day.until(lambda: crowd.open + len(crowd.failed) == len(paths), "viewers do not get in")
        time.sleep(2)
        say(f"   {len(paths) if watched else 'nobody'} looking, {options.seconds} s")
        seen = (crowd.events, crowd.bytes) if crowd else (0, 0)
        began, clock, scheduled = day.cpu(), time.monotonic(), day.scheduled()
        time.sleep(options.seconds)
        lasted = time.monotonic() - clock
        ticks[watched].append(100 * (day.cpu() - began) / lasted)
        exact[watched].append(100 * (day.scheduled() - scheduled) / lasted if scheduled else float("nan"))
        memory[watched] = day.memory_mb()
        if crowd:
            events, received = events + crowd.events - seen[0], received + crowd.bytes - seen[1]
            if crowd.failed:
                raise SystemExit(f"a viewer lost its page: {crowd.failed[:3]}")
            crowd.stop()
    watched_s = options.turns * options.seconds
    mean = {what: statistics.fmean(figures) for what, figures in ticks.items()}

    def span(figures):
        return f"{min(figures):.1f}-{max(figures):.1f}"

    return {
        "speed": speed, "viewers": len(paths), "nobody_percent": round(mean[False], 1), "from_to": span(ticks[False]),
        "watched_percent": round(mean[True], 1), "watched_from_to": span(ticks[True]), "cost_percent": round(mean[True] - mean[False], 1),
        "by_scheduler": round(statistics.fmean(exact[True]) - statistics.fmean(exact[False]), 1),
        "events_per_s": round(events / watched_s), "kb_per_s": round(received / 1000 / watched_s),
        "memory_mb": round(memory[False], 1), "watched_mb": round(memory[True], 1),
    }  # fmt: skip


# --- a long history -------------------------------------------------------------------------------------------------------


def history(options, daemon_of, steps):
    """pages of a daemon with 500 runs of 20 steps: milliseconds from the request to the whole answer, over loopback"""
    count, of = options.runs, 20
    with daemon_of({"many": steps(of, False, executor="process")}) as daemon:
        began = time.monotonic()
        for _ in range(count):
            daemon.run("many")
        lasted = time.monotonic() - began
        runs = sorted(daemon.ask("/runs?limit=500")["runs"], key=lambda run: run["created_at"])
        newest, oldest, *others = [run["id"] for run in (runs[-1], *runs[:51])]
        host = daemon.url.split("//")[1].rstrip("/")
        connection = http.client.HTTPConnection(host, timeout=30)
        rows = []
        looks = {
            "Today": "/",
            "DAGs": "/dags",
            "DAG": "/dags/many",
            "DAG, its oldest runs": f"/dags/many?skip={count - 30}",
            "run, the newest": f"/runs/{newest}",
            "run, the oldest": f"/runs/{oldest}",
            "API, all runs": "/api/v1/runs?limit=500",
            "API, all runs with their steps": "/api/v1/dags/many/runs?limit=500",
            # Each once: what is read of the journal is not in its cache.
            "run, each of fifty old ones": [f"/runs/{run}" for run in others],
        }
        for what, paths in looks.items():
            times = []
            for path in paths if isinstance(paths, list) else [paths] * (options.rounds + 1):
                began = time.monotonic()
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                times.append(1000 * (time.monotonic() - began))
                if answer.status != 200:
                    raise SystemExit(f"{path}: {answer.status} {body[:200]}")
            first, times = times[0], times[1:]
            rows.append({
                "page": what, "kb": round(len(body) / 1000), "first_ms": round(first, 2), "median_ms": round(statistics.median(times), 2),
                "max_ms": round(max(times), 2),
            })  # fmt: skip
    notes = [f"{count} runs of {of} steps were run one after the other in {lasted:.0f} s; the newest 50 are in memory whole, the others in brief"]
    return {"table": rows, "facts": {"runs": count, "steps": of}, "notes": notes}
