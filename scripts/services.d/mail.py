"""A mail server for tests: STARTTLS, AUTH, every mail a file, and refusals on demand.

Arguments: port, folder, user, password. The folder holds
  inbox/*.eml   accepted mails; X-Envelope-From and X-Envelope-To say what the client named
  refuse        when it exists: the reply to every mail, for example "451 4.3.0 try later"; an optional first word
                (mail, rcpt or data; default data) says at which command
  tls.crt       own certificate, signed by ca.crt; tls.key its key
"""

import asyncio
import hmac
import os
import signal
import ssl
import sys
import time

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def refusal(folder, stage):
    try:
        with open(os.path.join(folder, "refuse"), encoding="utf-8") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return None
    first, _, rest = text.partition(" ")
    where, reply = (first, rest) if first in ("mail", "rcpt", "data") else ("data", text)
    if where != stage:
        return None
    return reply or "451 4.3.0 refused on demand"


class Inbox:
    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    async def handle_MAIL(self, server, session, envelope, address, options):
        refused = refusal(self.folder, "mail")
        if not refused:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return refused or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        refused = refusal(self.folder, "rcpt")
        if not refused:
            envelope.rcpt_tos.append(address)
        return refused or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        refused = refusal(self.folder, "data")
        if refused:
            return refused
        self.count += 1
        name = f"{time.time_ns()}-{os.getpid()}-{self.count}.eml"
        path = os.path.join(self.folder, "inbox", name)
        head = f"X-Envelope-From: {envelope.mail_from}\r\n" + "".join(f"X-Envelope-To: {to}\r\n" for to in envelope.rcpt_tos)
        # Readers look at *.eml only, so they never see half a mail.
        with open(path + ".part", "wb") as file:
            file.write(head.encode() + envelope.original_content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + ".part", path)
        return f"250 OK kept as {name}"


async def main():
    port, folder, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    os.makedirs(os.path.join(folder, "inbox"), exist_ok=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key"))
    inbox = Inbox(folder)

    def check(server, session, envelope, mechanism, data):
        good = (
            isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, user.encode())
            and hmac.compare_digest(data.password, password.encode())
        )
        return AuthResult(success=good, handled=False)

    def connection():
        # AUTH also without TLS, because smtp:// without more stays on loopback.
        return SMTP(
            inbox, hostname="localhost", tls_context=tls, authenticator=check, auth_required=True, auth_require_tls=False,
            enable_SMTPUTF8=True, timeout=60,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await stop.wait()
    server.close()


asyncio.run(main())
