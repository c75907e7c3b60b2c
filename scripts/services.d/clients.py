"""Looks at the servers with clients that are not openbell's.

  clients.py ready NAME    exit 0 when the server answers as it should (and, for s3, has its bucket)
  clients.py count         what every reachable server holds, as JSON

Addresses come from the environment, as `scripts/services env` prints them.
"""

import collections
import gzip
import json
import os
import smtplib
import sys
import urllib.parse
import urllib.request


def address(name):
    return os.environ.get(f"OPENBELL_{name.upper()}")


def get(url):
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    request = urllib.request.Request(urllib.parse.urlunsplit((parts.scheme, host, parts.path, parts.query, "")))
    if parts.username:
        import base64

        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    # Proxies are for the outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as reply:
        return json.load(reply)


def kafka_settings(**more):
    return {"bootstrap.servers": address("kafka").removeprefix("kafka://").split("/")[0], "log_level": 2, **more}


def mongo():
    import pymongo

    return pymongo.MongoClient(address("mongo"), serverSelectionTimeoutMS=5000)


def s3():
    import boto3
    from botocore.config import Config

    parts = urllib.parse.urlsplit(address("s3"))
    options = dict(urllib.parse.parse_qsl(parts.query))
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        region_name=options.get("region", "us-east-1"),
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 2}, connect_timeout=5),
    )
    return client, parts.netloc


def ready_kafka():
    from confluent_kafka.admin import AdminClient

    metadata = AdminClient(kafka_settings()).list_topics(timeout=3)
    assert metadata.brokers


def ready_mongo():
    mongo().admin.command("ping")


def ready_elasticsearch():
    assert get(address("elasticsearch") + "/_cluster/health?wait_for_status=yellow&timeout=2s")["timed_out"] is False


def ready_opensearch():
    assert get(address("opensearch") + "/_cluster/health?wait_for_status=yellow&timeout=2s")["timed_out"] is False


def ready_s3():
    client, bucket = s3()
    if bucket not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)


def ready_smtp():
    parts = urllib.parse.urlsplit(address("smtp"))
    with smtplib.SMTP(parts.hostname, parts.port, timeout=3) as server:
        server.noop()


def count_kafka():
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(kafka_settings(**{"group.id": "openbell-services-count", "enable.auto.commit": False}))
    counts = {}
    for name, topic in sorted(consumer.list_topics(timeout=10).topics.items()):
        if name.startswith("__"):
            continue
        ends, ids, keys, records, nameless = {}, set(), set(), 0, 0
        for number in topic.partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(name, number), timeout=10)
            if high > low:
                ends[number] = (low, high)
        consumer.assign([TopicPartition(name, number, low) for number, (low, _) in ends.items()])
        left = {number: high for number, (_, high) in ends.items()}
        while left:
            batch = consumer.consume(10_000, timeout=10)
            if not batch:
                raise RuntimeError(f"topic {name}: no record for 10 s before {left}")
            for record in batch:
                if record.error():
                    raise RuntimeError(f"topic {name}: {record.error()}")
                number = record.partition()
                if number not in left:
                    continue
                if record.offset() < left[number]:
                    records += 1
                    keys.add(record.key())
                    found = dict(record.headers() or []).get("openbell.id")
                    if found is None:
                        try:
                            found = json.loads(record.value())["id"].encode()
                        except (ValueError, KeyError, TypeError, AttributeError):
                            nameless += 1
                    if found is not None:
                        ids.add(found)
                if record.offset() >= left[number] - 1:
                    del left[number]
        consumer.unassign()
        counts[name] = {"partitions": len(topic.partitions), "records": records, "ids": len(ids), "without_id": nameless, "keys": len(keys)}
    consumer.close()
    return counts


def count_mongo():
    client = mongo()
    counts = {}
    for database in sorted(client.list_database_names()):
        if database in ("admin", "local", "config"):
            continue
        for name in sorted(client[database].list_collection_names()):
            documents, ids = 0, set()
            for document in client[database][name].find({}, {"_id": 1}):
                documents += 1
                ids.add(str(document["_id"]))
            counts[f"{database}.{name}"] = {"documents": documents, "ids": len(ids)}
    return counts


def count_index(url):
    names = sorted(row["index"] for row in get(url + "/_cat/indices?format=json&expand_wildcards=all") if not row["index"].startswith("."))
    return {name: {"documents": get(f"{url}/{urllib.parse.quote(name)}/_count")["count"]} for name in names}


def count_s3():
    client, bucket = s3()
    counts = collections.defaultdict(lambda: {"objects": 0, "bytes": 0, "lines": 0, "ids": set()})
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            key = found["Key"]
            row = counts[key.split("/year=")[0] if "/year=" in key else key.rpartition("/")[0]]
            row["objects"] += 1
            row["bytes"] += found["Size"]
            if not key.endswith(".jsonl.gz"):
                continue
            try:
                text = gzip.decompress(client.get_object(Bucket=bucket, Key=key)["Body"].read())
            except gzip.BadGzipFile:
                row["unreadable"] = row.get("unreadable", 0) + 1
                continue
            for line in text.splitlines():
                row["lines"] += 1
                row["ids"].add(json.loads(line).get("id"))
    return {prefix: {**row, "ids": len(row["ids"])} for prefix, row in sorted(counts.items())}


def count_mail():
    folder = os.environ["OPENBELL_INBOX"]
    if folder.startswith("http"):
        return {"mails": get(folder)["total"]}
    return {"mails": sum(name.endswith(".eml") for name in os.listdir(folder))}


def count():
    looks = {
        "kafka": count_kafka,
        "mongo": count_mongo,
        "elasticsearch": lambda: count_index(address("elasticsearch")),
        "opensearch": lambda: count_index(address("opensearch")),
        "s3": count_s3,
        "smtp": count_mail,
    }
    answer, good = {}, True
    for name in sys.argv[2:] or [n for n in looks if address(n)]:
        try:
            if name in ("elasticsearch", "opensearch"):
                # Counts what is stored, not what a search would see already.
                get(address(name) + "/_refresh")
            answer[name] = looks[name]()
        except Exception as error:  # one server that is down must not hide the others
            answer[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            good = False
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0 if good else 1


if sys.argv[1] == "ready":
    try:
        globals()[f"ready_{sys.argv[2]}"]()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
elif sys.argv[1] == "count":
    sys.exit(count())
