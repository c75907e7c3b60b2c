"""A day of the demo in containers, in which openbell, or the engine, is killed again and again; and what became of it.

    scripts/kill-day --executor docker|swarm [SEED] [--what daemon|engine] [--kills N] [--speed N] [--backends real] [--json] [--keep]

--what daemon   kill -9 of openbell and the same command again, ten times (the default)
--what engine   kill -9 of the Docker Engine and its containerd, and the engine again, once; only with an engine that scripts/engine
                started. Containers live on until the engine is back, which ends them; with OPENBELL_ENGINE_OPTIONS=--live-restore (for
                scripts/engine up before, too) it takes them over
                of a swarm: the worker of scripts/swarm, which comes back a minute later. Its containers live on meanwhile
--kills N       how often
--speed N       of the day's clock (120; 60 for the engine)
--market N      seed of the market (31)
--backends      embedded or real, as in openbell demo; real ones want eval "$(scripts/services env)"
--json          the outcome for programs
--keep          keeps the day's data folder and says where it is

The day is cut into as many parts as there are kills; in each, one falls on a moment that SEED chooses, by the day's own clock. Exit code 0
only if the day reconciles, no record is missing or there twice in any store, all kills came before the end, no step ran twice at once, and no
container is left. Who says that no step ran twice: the engine's events, and the machine's list of processes; for a swarm, whose engine forgets
its events when it is killed, only the latter: both engines of scripts/swarm run on this machine.

The binary is OPENBELL_BIN (target/release/openbell), the image OPENBELL_IMAGE or that of scripts/engine; both hold the same openbell.
"""

import argparse
import glob
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import datetime, timedelta, timezone

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "engine.d"))
sys.dont_write_bytecode = True
import api  # noqa: E402
import watch  # noqa: E402

SEOUL = timezone(timedelta(hours=9))
DATE = "2026-11-20"
# Every symbol has a print after the last moment, so no loss stays invisible.
FIRST, LAST = "08:51", "15:48"
# Real seconds that a day may take, and that the engine stays away.
PATIENCE = 1800
AWAY = 2.0
# A swarm takes twenty seconds to call a node down, and its ghosts shall have time to do harm.
NODE_AWAY = 60.0


def say(text):
    print(text, file=sys.stderr, flush=True)


def moments(kills, seed):
    """One in each part of the day."""
    first, last = (datetime.fromisoformat(f"{DATE}T{t}:00").replace(tzinfo=SEOUL) for t in (FIRST, LAST))
    chance, part = random.Random(seed), (last - first) / kills
    return [first + part * (n + chance.random()) for n in range(kills)]


class Failed(Exception):
    """The day cannot go on, or not be judged."""


class Day:
    def __init__(self, options):
        self.folder = tempfile.mkdtemp(prefix="openbell-kills-")
        self.data, self.report = os.path.join(self.folder, "data"), os.path.join(self.folder, "report.json")
        os.mkdir(self.data)
        binary = os.environ.get("OPENBELL_BIN") or os.path.join(ROOT, "target", "release", "openbell")
        self.command = [binary, "demo", "--executor", options.executor, "--backends", options.backends, "--date", DATE]
        self.command += ["--port", "0", "--quiet", "--speed", str(options.speed), "--seed", str(options.market)]
        self.command += ["--dags", os.path.join(ROOT, "dags"), "--data", self.data, "--report", self.report]
        self.environment = {**os.environ, **(swarm_variables() if options.executor == "swarm" else api.variables())}
        self.until = time.monotonic() + PATIENCE
        self.child = None

    def start(self):
        with open(os.path.join(self.folder, "output"), "a", encoding="utf-8") as output:
            self.child = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def now(self):
        """What time it is on the day: its clock file says so (src/clock.rs), whether anybody keeps it or not."""
        try:
            with open(os.path.join(self.data, "clock"), "rb") as file:
                body = file.read()
        except FileNotFoundError:
            return None
        if len(body) < 44 or zlib.crc32(body[:40]) != struct.unpack(">I", body[40:44])[0]:
            return None
        monotonic, nanos = (int.from_bytes(body[at : at + 16], "big", signed=True) for at in (0, 16))
        speed = struct.unpack(">d", body[32:40])[0]
        passed = max(0, time.clock_gettime_ns(time.CLOCK_MONOTONIC) - monotonic)
        return datetime.fromtimestamp((nanos + passed * speed) / 1e9, SEOUL)

    def wait_for(self, moment):
        while (now := self.now()) is None or now < moment:
            self.check(f"before {moment:%H:%M}")
            time.sleep(0.005)
        self.check(f"before {moment:%H:%M}")

    def check(self, when):
        if self.child.poll() is not None:
            raise Failed(f"the day ended {when} with {self.child.returncode}: {self.said()}")
        if time.monotonic() > self.until:
            raise Failed(f"the day takes longer than {PATIENCE} s; it is {self.now():%H:%M}")

    def kill(self):
        self.child.kill()
        if self.child.wait() != -9:
            raise Failed(f"openbell had ended with {self.child.returncode} before it was killed")

    def finish(self):
        while self.child.poll() is None:
            time.sleep(0.05)
            if time.monotonic() > self.until:
                raise Failed(f"the day takes longer than {PATIENCE} s; it is {self.now():%H:%M}")
        if not os.path.exists(self.report):
            raise Failed(f"exit code {self.child.returncode} and no report: {self.said()}")
        with open(self.report, encoding="utf-8") as file:
            return json.load(file)

    def noted(self):
        """Attempts that openbell made a container for."""
        notes = glob.glob(os.path.join(self.data, "runs", "*", "*", "*", "container"))
        return {(f"{run} {step}", int(attempt)) for run, step, attempt in (note.split(os.sep)[-4:-1] for note in notes)}

    def said(self):
        with open(os.path.join(self.folder, "output"), encoding="utf-8", errors="replace") as file:
            return file.read()[-500:].strip() or "it said nothing"


def script(name, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    done = subprocess.run([os.path.join(ROOT, "scripts", name), *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode != 0:
        raise Failed(f"scripts/{name} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def engine_script(*arguments):
    return script("engine", *arguments)


def swarm_variables():
    lines = script("swarm", "env").splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


class NoEvents:
    """Of a swarm: each engine has its own, and forgets them when it is killed."""

    found, outages = [], 0

    def end(self):
        pass

    def starts(self):
        return []

    def overlaps(self):
        return []


class Swarm:
    """What is left on it, in the words of the engine's API."""

    def containers(self, installation):
        listed = script("swarm", "at", "a", "service", "ls", "--quiet", "--filter", f"label=openbell.installation={installation}")
        return [{"Id": service, "Names": [f"service {service}"], "State": "not removed"} for service in listed.split()]

    def remove(self, service):
        script("swarm", "at", "a", "service", "rm", service)


def kill_node(day):
    script("swarm", "kill", "b")
    until = time.monotonic() + NODE_AWAY
    while time.monotonic() < until:
        day.check("while the node was away")
        time.sleep(0.2)
    script("swarm", "start", "b")


def kill_engine(day):
    engine_script("kill")
    time.sleep(AWAY)
    day.check("while the engine was away")
    engine_script("up")


def kill_openbell(day):
    day.kill()
    day.start()


def play(options):
    day = Day(options)
    of_swarm = options.executor == "swarm"
    engine = Swarm() if of_swarm else api.Engine(day.environment["DOCKER_HOST"])
    installation = api.installation(day.data)
    events = NoEvents() if of_swarm else watch.Events(engine, installation)
    processes = watch.Processes(day.data)
    kills, faults, report, began = [], [], None, time.monotonic()
    try:
        day.start()
        for moment in moments(options.kills, options.seed):
            day.wait_for(moment)
            kills.append(day.now())
            {"daemon": kill_openbell, "engine": kill_node if of_swarm else kill_engine}[options.what](day)
            say(f"   kill {len(kills)} at {kills[-1]:%H:%M:%S}")
        report = day.finish()
    except Failed as why:
        faults.append(str(why))
    except KeyboardInterrupt:
        faults.append("interrupted")
    finally:
        if day.child:
            day.child.kill()
            day.child.wait()
    # The last events are on their way for a moment.
    time.sleep(1)
    events.end()
    processes.end()
    left = engine.containers(installation)
    for container in left:
        engine.remove(container["Id"])
    outcome = judge(options, day, report, kills, events, processes, left, faults)
    outcome["seconds"] = round(time.monotonic() - began)
    if options.keep or not outcome["ok"]:
        outcome["data"] = day.folder
        with open(os.path.join(day.folder, "events.json"), "w", encoding="utf-8") as file:
            json.dump(sorted(events.found), file, indent=1)
    else:
        shutil.rmtree(day.folder, ignore_errors=True)
    return outcome


def judge(options, day, report, kills, events, processes, left, faults):
    starts, overlaps, twice = events.starts(), events.overlaps(), sorted(processes.twice)
    outcome = {
        "what": options.what, "executor": options.executor, "backends": options.backends, "speed": options.speed,
        "market": options.market, "seed": options.seed, "kills": [f"{k:%H:%M:%S}" for k in kills], "starts": len(starts),
        "overlaps": len(overlaps) + len(twice), "outages": events.outages, "left": len(left),
        "processes": {"looks": processes.looks, "most": processes.most},
    }  # fmt: skip
    if report:
        hops = report["hops"]
        outcome |= {
            "trades": hops["spool"]["unique"],
            "undelivered": report["undelivered"],
            "missing": sum(hop["missing"] for hop in hops.values()),
            "duplicates": sum(hop["duplicates"] for hop in hops.values()),
            "attempts": {step["name"]: step["attempts"] for step in report["steps"]},
            "alerts": [f"{alert['state']} {alert['at'][11:16]}" for alert in report["alerts"]],
            "report_ok": report["ok"] and day.child.returncode == 0,
        }
        faults += report["faults"]
        if not outcome["report_ok"]:
            faults.append(f"exit code {day.child.returncode}, ok {str(report['ok']).lower()}")
        for name, hop in hops.items():
            if hop["missing"] or hop["duplicates"]:
                faults.append(f"{name}: {hop['missing']} missing, {hop['duplicates']} twice")
        if len({hop["unique"] for hop in hops.values()}) != 1:
            faults.append(f"stores hold different numbers: { {name: hop['unique'] for name, hop in hops.items()} }")
    # Each attempt's container starts once. Events that nobody heard would prove nothing; a dying engine may swallow its last word.
    unheard = day.noted() - set(starts)
    outcome["unheard"] = len(unheard)
    if len(unheard) > (options.kills if options.what == "engine" else 0):
        faults.append(f"no start in the engine's events: {', '.join(f'{step} attempt {n}' for step, n in sorted(unheard))}")
    if len(set(starts)) != len(starts):
        faults.append(f"{len(starts)} starts of {len(set(starts))} containers")
    faults += overlaps + twice
    if len(kills) != options.kills:
        faults.append(f"{len(kills)} of {options.kills} kills")
    if options.executor == "swarm" and not processes.most:
        faults.append("no process of a step was seen, so nothing says that none ran twice")
    if options.what == "engine" and options.executor == "docker" and events.outages < options.kills:
        faults.append(f"{events.outages} outages of the engine were seen")
    faults += [f"left: container {c['Names'][0].lstrip('/')}, {c['State']}" for c in left]
    return outcome | {"faults": faults, "ok": report is not None and not faults}


def line(o):
    text = "ok" if o["ok"] else "FAILED"
    text += f": {len(o['kills'])} kills of the {o['what']} ({', '.join(k[:5] for k in o['kills'])}); "
    if "trades" in o:
        text += f"{o['trades']} trades in five hops, {o['missing']} missing, {o['duplicates']} twice; "
    if o["executor"] == "docker":
        text += f"{o['starts']} containers started, "
    text += f"{o['overlaps']} steps ran twice at once, {o['left']} containers left; {o['seconds']} s"
    return text


def interrupted(*_):
    """The day ends, and its containers are removed; a second signal does not come between."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="scripts/kill-day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", nargs="?", type=int, default=20261120, metavar="SEED")
    parser.add_argument("--executor", choices=["docker", "swarm"], default="docker")
    parser.add_argument("--what", choices=["daemon", "engine"], default="daemon")
    parser.add_argument("--kills", type=int, metavar="N")
    parser.add_argument("--speed", type=int, metavar="N")
    parser.add_argument("--market", type=int, default=31, metavar="N")
    parser.add_argument("--backends", choices=["embedded", "real"], default="embedded")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    options.kills = options.kills or {"daemon": 10, "engine": 1}[options.what]
    options.speed = options.speed or {"daemon": 120, "engine": 60}[options.what]
    if options.executor == "swarm":
        options.backends = "real"
    elif options.what == "engine":
        status = json.loads(engine_script("status", "--json"))
        if (status["whose"], status["state"]) != ("own", "running"):
            found = f"the engine at {status['host']} is {status['state']}, and {status['whose']}"
            raise SystemExit(f"--what engine kills only one that scripts/engine started; {found}; write: scripts/engine up")
        os.environ["DOCKER_HOST"] = status["host"]
    outcome = play(options)
    if options.json:
        print(json.dumps(outcome, indent=2))
    for fault in outcome["faults"]:
        say(f"   {fault}")
    if "data" in outcome:
        say(f"   its data: {outcome['data']}")
    print(line(outcome), file=sys.stderr if options.json else sys.stdout)
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
