"""The web server of all MTA-STS policies: one address, a certificate per name, chosen by SNI."""

import http.server
import socket
import ssl
import threading

ADDRESS, SILENT_ADDRESS = "10.53.44.1", "10.53.44.2"


def serve(policies, certificates):
    """`policies`: domain -> policy text; `certificates`: domain -> PEM file for its `mta-sts.` name."""
    contexts = {}
    for domain, pem in certificates.items():
        contexts["mta-sts." + domain] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            domain = self.headers.get("Host", "").partition(":")[0].removeprefix("mta-sts.")
            body = policies.get(domain, "").encode()
            found = body and self.path == "/.well-known/mta-sts.txt"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def choose(connection, name, _context):
        if name not in contexts:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = contexts[name]
        return None

    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.sni_callback = choose
    front.load_cert_chain(next(iter(certificates.values())))
    server = http.server.ThreadingHTTPServer((ADDRESS, 443), Handler)
    server.handle_error = lambda *_: None  # clients that are killed, or refuse the certificate
    # The handshake happens in the connection's own thread, not in the accepting one.
    server.socket = front.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def listen_silently():
    """A policy host that takes connections and never says a word."""
    listener = socket.create_server((SILENT_ADDRESS, 443), backlog=64)
    taken = []

    def accept():
        while True:
            taken.append(listener.accept())

    threading.Thread(target=accept, daemon=True).start()
