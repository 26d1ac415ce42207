"""A local server that answers as Binance's public klines, exchangeInfo and time do."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

START = 1_700_000_100_000  # a multiple of five minutes
STEP = 300_000


def bar(when, offset=0):
    base = 100 + (when // STEP) % 50 + offset
    return [when, f"{base}", f"{base + 2}", f"{base - 1}", f"{base + 1}", "7.5", when + STEP - 1]


@dataclass
class Reply:
    """An answer that is sent as it is, `drip_s` seconds after each byte."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0


@dataclass
class Twist:
    """An answer whose bars are the result of `rows`, called with the right ones and the query."""

    rows: Callable


class BinanceServer:
    """`faults` are spent one a request: a status, "cut", "empty", "shut", or a callable.

    Also what is sent as it is (a `Reply`) and what is made of the right bars (a `Twist`).
    `time_faults` and `market_faults` are spent by requests of the time and of the markets;
    `faults_at` has those of bars from a time on; `always` is that of every further request of them.
    """

    # Of a test's clock: what it waited for, was told, and where time ends.
    waits: list
    notes: list
    ahead_s: float
    until: int | None
    open: Callable

    def __init__(self, num_closed=2500, symbols=("BTCUSDT", "ETHUSDT")):
        self.now = START + num_closed * STEP + 1000
        self.symbols, self.faults, self.asked = symbols, [], []
        self.headers, self.missing = {}, set()
        self.perpetuals: tuple[str, ...] = ()
        self.turnover = {}
        self.time_faults, self.market_faults, self.always = [], [], None
        self.faults_at = {}
        self.over = threading.Event()
        handler = type("Handler", (_Handler,), {"world": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def point(self, exchange):
        """Points every address of ccxt's client here; answers at once."""
        urls = exchange.client.urls["api"]
        urls.update({name: f"{self.url}/{name}" for name in urls})
        exchange.client.rateLimit = 1
        return exchange

    def klines(self, query):
        since = int(query["startTime"][0]) if "startTime" in query else START
        limit = int(query["limit"][0])
        first = max(START, -(-since // STEP) * STEP)
        times = [when for when in range(first, self.now + 1, STEP) if when not in self.missing]
        return [bar(when, 1000 * (query.get("symbol") == ["ETHUSDT"])) for when in times[:limit]]


class _Handler(BaseHTTPRequestHandler):
    world: BinanceServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        world, url = self.world, urlparse(self.path)
        query = parse_qs(url.query)
        if url.path.endswith("/time"):
            fault = world.time_faults.pop(0) if world.time_faults else None
            return self.fail(fault) if fault else self.send(200, {"serverTime": world.now})
        if url.path.endswith("/exchangeInfo"):
            if world.market_faults:
                return self.fail(world.market_faults.pop(0))
            return self.send(200, {"symbols": self.markets(url.path)})
        if url.path.endswith("/ticker/24hr"):
            there = [market["symbol"] for market in self.markets(url.path)]
            spot = {"bidQty": "1"} if url.path.startswith("/public/") else {}
            rows = [{"symbol": n, "quoteVolume": world.turnover.get(n), **spot} for n in there]
            return self.send(200, rows)
        world.asked.append(query)
        since = int(query.get("startTime", ["0"])[0])
        faults = world.faults or world.faults_at.get(since)
        fault = faults.pop(0) if faults else world.always
        if callable(fault):
            fault = fault()
        if isinstance(fault, Twist):
            return self.send(200, fault.rows(world.klines(query), query))
        if isinstance(fault, Reply | int) or fault == "shut":
            return self.fail(fault)
        page = [] if fault == "empty" else world.klines(query)
        self.send(200, page, cut=fault == "cut")

    def markets(self, path):
        names, more = (), {}
        if path.startswith("/public/"):
            names = self.world.symbols
        elif path.startswith("/fapiPublic"):
            names = self.world.perpetuals
            more = {"contractType": "PERPETUAL", "marginAsset": "USDT"}
        pairs = [{"symbol": n, "baseAsset": n[:3], "quoteAsset": n[3:]} for n in names]
        return [{**pair, "pair": pair["symbol"], "status": "TRADING", **more} for pair in pairs]

    def fail(self, fault):
        if fault == "shut":
            self.close_connection = True
        elif isinstance(fault, int):
            self.send(fault, {"code": -1003, "msg": "not now"}, self.world.headers)
        else:
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = True
            self.drip(fault.body, fault.drip_s)

    def drip(self, body, seconds):
        try:
            for byte in range(len(body)) if seconds else []:
                self.wfile.write(body[byte : byte + 1])
                if self.world.over.wait(seconds):
                    return
            self.wfile.write(body if not seconds else b"")
        except OSError:  # whoever asked has gone
            pass

    def send(self, status, answer, headers=None, cut=False):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = True
