"""A client of Kafka that is not openbell's and does harm. Needs confluent-kafka (scripts/services has it).

    intruder.py storm  BROKERS TOPIC GROUP    members join the group and leave it, until standard input ends; none commits
    intruder.py delete BROKERS TOPIC N        deletes the topic and makes it anew, empty, with N partitions

Prints a JSON line at its end.
"""

import json
import random
import sys
import threading
import time

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic


def storm(brokers, topic, group):
    over = threading.Event()
    counts = {"joined": 0, "held": 0, "records": 0}

    def member():
        consumer = Consumer({
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        })
        held = []
        consumer.subscribe([topic], on_assign=lambda _, parts: held.extend(parts))
        counts["joined"] += 1
        until = time.monotonic() + random.uniform(3, 7)
        while time.monotonic() < until and not over.is_set():
            message = consumer.poll(0.1)
            counts["records"] += message is not None and not message.error()
        counts["held"] += bool(held)
        # One in three dies without a word: the group waits for its session to run out.
        if random.random() < 0.67:
            consumer.close()

    def some():
        while not over.is_set():
            member()
            over.wait(random.uniform(0.5, 2))

    threads = [threading.Thread(target=some, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(20)
    return counts


def delete(brokers, topic, partitions):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_topics([topic])[topic].result(30)
    until = time.monotonic() + 30
    while True:
        try:
            admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(30)
            return {"deleted": topic}
        except Exception as error:
            # Its name stays taken for a moment.
            if time.monotonic() > until or "exist" not in str(error):
                raise
            time.sleep(0.1)


print(json.dumps({"storm": storm, "delete": delete}[sys.argv[1]](*sys.argv[2:])), flush=True)
