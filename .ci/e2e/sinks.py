"""Mail hosts: one listener per address and port, STARTTLS with a known certificate, a record of what arrived."""

import asyncio
import dataclasses
import logging
import ssl
import threading


@dataclasses.dataclass
class Message:
    """One accepted message and how it came."""

    host: str
    port: int
    recipients: list
    tls: str | None
    sni: str | None
    smtputf8: bool


class Sinks:
    """All mail hosts of the lab, on one event loop in a thread."""

    def __init__(self):
        self.received = []  # appended to by the loop's thread only
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of every client that ends TLS first
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def listen(self, host, port, certificate):
        """Accepts mail for a `world.Host`; `certificate` is a PEM file, or None for no STARTTLS."""

        async def connected(reader, writer):
            try:
                await Session(self, host.name, port, certificate, reader, writer).run()
            except (OSError, asyncio.IncompleteReadError):
                pass  # a client that goes away, or refuses our certificate
            finally:
                writer.close()

        async def start():
            await asyncio.start_server(connected, host.address, port)

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)


class Session:
    """One SMTP session (RFC 5321, RFC 3207, RFC 6531), as much of it as Postfix uses."""

    def __init__(self, sinks, host, port, certificate, reader, writer):
        self.sinks, self.host, self.port, self.certificate = sinks, host, port, certificate
        self.reader, self.writer = reader, writer
        self.tls = self.sni = None
        self.recipients, self.smtputf8 = [], False

    async def run(self):
        await self.say(f"220 {self.host} ESMTP")
        while line := await self.reader.readline():
            command, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            handler = getattr(self, "on_" + command.lower(), None)
            if handler is None:
                await self.say("502 5.5.1 not here")
            elif await handler(rest):
                return

    async def say(self, *lines):
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()

    async def on_ehlo(self, _):
        extensions = ["8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self.certificate and not self.tls:
            extensions.append("STARTTLS")
        lines = [self.host, *extensions]
        await self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    async def on_starttls(self, _):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        context.sni_callback = lambda _socket, name, _context: setattr(self, "sni", name)
        await self.say("220 2.0.0 go ahead")
        await self.writer.start_tls(context)
        self.tls = self.writer.get_extra_info("ssl_object").version()

    async def on_mail(self, rest):
        self.recipients, self.smtputf8 = [], "SMTPUTF8" in rest.upper()
        await self.say("250 2.1.0 ok")

    async def on_rcpt(self, rest):
        self.recipients.append(rest.partition("<")[2].partition(">")[0])
        await self.say("250 2.1.5 ok")

    async def on_data(self, _):
        await self.say("354 go on")
        while await self.reader.readline() not in (b".\r\n", b""):
            pass
        self.sinks.received.append(Message(self.host, self.port, self.recipients, self.tls, self.sni, self.smtputf8))
        await self.say("250 2.0.0 kept")

    async def on_rset(self, _):
        await self.say("250 2.0.0 ok")

    async def on_quit(self, _):
        await self.say("221 2.0.0 bye")
        return True
