import asyncio
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from loop import answer


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asyncio.run(answer(**asked))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"answer": said}).encode())


HTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
