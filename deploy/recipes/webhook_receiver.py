# Run by `make test`. Takes the webhooks of tasks and verifies them: pip install standardwebhooks
PORT = 8080
SECRET = "whsec_…"  # GET /v1/koi/webhooks/secret with your key

from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

seen = set()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            message = Webhook(SECRET).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.answer(401)
            return
        # A message may come twice, with the same id.
        if self.headers["webhook-id"] not in seen:
            seen.add(self.headers["webhook-id"])
            task = message["data"]
            links = [picture["url"] for picture in task["data"] or []]
            print(message["type"], task["id"], *links, flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


HTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
