"""Each request comes from an address of its own, so that the wrong tokens among them do not make the others wait."""

import random

import schemathesis

chosen = random.Random(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    address = ".".join(str(chosen.randint(1, 254)) for _ in range(4))
    case.headers["X-Forwarded-For"] = address
