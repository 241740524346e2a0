"""Makes each alert of deploy/prometheus/pulse.rules.yml fire by the fault that it is for, in a real Prometheus that scrapes the real
program on real services. Also checks that each metric that the rules and the dashboard name is in a scrape.

Run by script/test-alerts.
"""

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (ROOT / sys.argv[1] / "taskcluster-pulse").resolve()
AMQP = (ROOT / sys.argv[1] / "examples/amqp").resolve()
RULES = ROOT / "deploy/prometheus/pulse.rules.yml"
DASHBOARD = ROOT / "deploy/grafana/pulse.json"
SERVICES = Path(os.environ["PULSE_TEST_SERVICES_DIR"])
API = os.environ["PULSE_TEST_RABBITMQ_API"]
LOGIN = (os.environ["PULSE_TEST_RABBITMQ_USERNAME"], os.environ["PULSE_TEST_RABBITMQ_PASSWORD"])
TOKEN = "an-access-token-of-the-test-0123456789"

BEGAN = time.monotonic()
passed, failed, processes = 0, 0, []


def check(name, good, why=""):
    global passed, failed
    if good:
        passed += 1
        print(f"ok {name} (after {time.monotonic() - BEGAN:.0f} s)", flush=True)
    else:
        failed += 1
        print(f"FAILED {name}: {why}", flush=True)
    return good


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url, method="GET", body=None, login=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("content-type", "application/json")
    if login:
        request.add_header("authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def rabbit(method, path, body=None):
    return fetch(f"{API}/api/{path}", method, body, LOGIN)


def wait(what, until, seconds=30):
    """Waits until `until` gives something true, and gives that; None where it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = until()
        except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
            found = None
        if found:
            return found
        time.sleep(0.1)
    return None


class Service:
    """A process of the service, with its metrics."""

    def __init__(self, folder, arguments, name="a", **variables):
        self.name = name
        self.port, self.metrics = PORTS[name]
        environment = {
            "PATH": os.environ["PATH"],
            "RABBIT_BASE_URL": API,
            "RABBIT_USERNAME": LOGIN[0],
            "RABBIT_PASSWORD": LOGIN[1],
            "TASKCLUSTER_AMQP_PROTOCOL": "amqp://",
            "TASKCLUSTER_AMQP_PORT": os.environ["PULSE_TEST_RABBITMQ_AMQP"].split(":")[1],
            "DATABASE_URL": os.environ["PULSE_TEST_POSTGRES"],
            "DB_CRYPTO_KEYS": json.dumps([{"id": "a", "algo": "aes-256", "key": base64.b64encode(b"k" * 32).decode()}]),
            "STATIC_CLIENTS": json.dumps([{"clientId": "me", "accessToken": TOKEN, "scopes": ["pulse:*"]}]),
            "SERVER_ADDRESS": "127.0.0.1",
            "PORT": str(self.port),
            "METRICS_ADDRESS": f"127.0.0.1:{self.metrics}",
            "TASKCLUSTER_ROOT_URL": f"http://127.0.0.1:{self.port}",
            "TASKCLUSTER_CLIENT_ID": "me",
            "TASKCLUSTER_ACCESS_TOKEN": TOKEN,
            "NAMESPACE_ROTATION_INTERVAL": "16 s",
            "RABBIT_REQUEST_TIMEOUT": "800 ms",
            "RABBIT_LIST_TIMEOUT": "2 s",
            "STORE_QUERY_TIMEOUT": "1 s",
            "WORKER_ROTATE_INTERVAL": "500 ms",
            "WORKER_MONITOR_INTERVAL": "500 ms",
            "WORKER_EXPIRE_INTERVAL": "500 ms",
            "WORKER_DELIVER_INTERVAL": "500 ms",
            "NAMESPACES_EXPIRATION_DELAY": "1 s",
            "MONITOR_DELETE_ORPHANS": "false",
            **variables,
        }
        self.environment, self.folder = environment, folder
        self.log = open(folder / f"{name}.log", "ab")
        self.process = subprocess.Popen([PROGRAM, *arguments], cwd=folder, env=environment, stdout=self.log, stderr=self.log)
        processes.append(self.process)

    def scrape(self):
        return fetch(f"http://127.0.0.1:{self.metrics}/metrics")

    def ready(self):
        if not wait("the service", self.scrape):
            sys.exit("the service does not start:\n" + (self.folder / f"{self.name}.log").read_text()[-3000:])
        return self

    def run(self, *arguments):
        return subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def stop(self):
        self.process.terminate()
        self.process.wait()


def server_pids(part):
    pid = (SERVICES / part / "server.pid").read_text().split()[0]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if part == "postgresql" else []
    return [int(pid), *map(int, children)]


class Frozen:
    """A server that stands still for a while: it accepts connections, and answers nothing."""

    def __init__(self, part):
        self.part = part

    def __enter__(self):
        for pid in server_pids(self.part):
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_):
        for pid in reversed(server_pids(self.part)):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


class ShortLived:
    """A server that shows a certificate that ends in five days. It gives its port."""

    def __init__(self, folder):
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "5", "-subj", "/CN=localhost"]
        make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                self.context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return self.listener.getsockname()[1]

    def __exit__(self, *_):
        self.listener.close()


def quick(text):
    """The rules with a tenth of a second for each minute, but eight seconds at least (what describes the
    whole service may be five seconds old), and a few seconds for each window."""
    text = re.sub(r"\bfor: \w+", "for: 0s", text)
    text = re.sub(r"\b(\d+) \* 60 \* 60\b", r"\1 * 6", text)
    text = re.sub(r"\b(\d+) \* 60\b", lambda found: str(max(8, int(found[1]) * 0.1)), text)
    windows = {"5m": "4s", "30m": "6s", "1h": "8s", "2h": "8s", "6h": "10s", "15m": "6s", "1d": "12s", "3d": "15s", "1w": "20s"}
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{windows[found[1]]}]", text)
    text = text.replace("offset 1h", "offset 8s")
    # Of unacknowledged messages, as many as a test makes.
    return text.replace("> 100000", "> 100")


class Prometheus:
    def __init__(self, folder):
        self.port = free_port()
        (folder / "rules.yml").write_text(quick(RULES.read_text()))
        targets = [f"127.0.0.1:{metrics}" for _, metrics in PORTS.values()]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "pulse", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.log = open(folder / "prometheus.log", "wb")
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--query.lookback-delta=3s"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log)
        processes.append(self.process)

    def ask(self, path):
        return json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/{path}"))["data"]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}


def expect(prometheus, *names, seconds=25):
    """Waits until all of these fire, though not at the same moment."""
    missing, seen = set(names), set()

    def look():
        firing = prometheus.firing()
        seen.update(firing)
        missing.difference_update(firing)
        return not missing

    wait("alerts", look, seconds)
    for name in names:
        check(f"{name} fires", name not in missing, f"only {sorted(seen)} fired")
        FIRED.add(name)


def quiet(prometheus, *names, seconds=25):
    gone = wait("the end of alerts", lambda: not prometheus.firing() & set(names), seconds)
    check(f"and no longer: {', '.join(names)}", gone, f"still {sorted(prometheus.firing())}")


def try_claims(service, done):
    """Claims a namespace again and again that nobody remembers."""
    command = [PROGRAM, "claim", "taskcluster-never-seen"]
    while not done.is_set():
        claim = subprocess.Popen(
            command, cwd=service.folder, env=service.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while claim.poll() is None and not done.is_set():
            time.sleep(0.05)
        claim.kill()
        claim.wait()


FIRED = set()
PORTS = {"a": (free_port(), free_port()), "b": (free_port(), free_port())}


def names_in_rules():
    text = RULES.read_text()
    expressions = re.findall(r"expr: (\|\n(?:          .*\n)+|.*\n)", text)
    names = re.findall(r"\b(?:pulse|http|iterate|process)_[a-z0-9_]+\b", " ".join(expressions))
    return set(names)


def names_in_dashboard():
    texts = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", [])]
    recorded = set(re.findall(r"record: (\S+)", RULES.read_text()))
    used = set(re.findall(r"\bpulse:[a-z0-9_:]+\b", " ".join(texts)))
    check("the dashboard uses only what the rules record", used <= recorded, str(used - recorded))
    return set(re.findall(r"\b(?:pulse|http|iterate|process)_[a-z0-9_]+\b", re.sub(r"pulse:\S+", "", " ".join(texts))))


def main(folder):
    service = Service(folder, ["serve"])
    subprocess.run([PROGRAM, "migrate"], env=service.environment, cwd=folder, check=True, capture_output=True)
    service.ready()
    prometheus = Prometheus(folder)
    wait("Prometheus", lambda: prometheus.ask("alerts"))
    claim = service.run("claim", "taskcluster-a", "--contact", "a@example.com", "--expires", "30 min")
    check("a claim is answered", claim.returncode == 0, claim.stderr)
    expect(prometheus, "PulseWatchdog")
    listed = wait("a sweep", lambda: "pulse_listed{" in service.scrape() and service.scrape())
    linted = subprocess.run(["promtool", "check", "metrics"], input=listed, capture_output=True, text=True)
    check("promtool finds nothing wrong with a scrape", linted.returncode == 0, linted.stderr + linted.stdout)
    series = set(re.findall(r"^# TYPE (\S+)", listed, re.M))
    shown = {name + end for name in series for end in ("", "_bucket", "_sum", "_count")}
    for where, names in (("rules", names_in_rules()), ("dashboard", names_in_dashboard())):
        check(f"each metric of the {where} is in a scrape", names and names <= shown, str(sorted(names - shown)))
    # What fired before the first scrape goes, and then nothing does for as long as the longest of the rules waits.
    firing = lambda: prometheus.firing() - {"PulseWatchdog", "PulseInstanceDown"}
    wait("alerts of the start to go", lambda: not firing())
    fired = set()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        fired |= firing()
        time.sleep(0.2)
    check("a service that is well has no alerts", not fired, str(fired))

    # What somebody else made in the names of a namespace; and many queues that somebody removes again.
    for n in range(40):
        rabbit("PUT", f"queues/%2F/other-{n}", {"auto_delete": False, "durable": True})
    rabbit("PUT", "queues/%2F/queue%2Ftaskcluster-ghost%2Fx", {"durable": True})
    expect(prometheus, "PulseUnknownThings")
    rabbit("DELETE", "queues/%2F/queue%2Ftaskcluster-ghost%2Fx")
    for n in range(40):
        rabbit("DELETE", f"queues/%2F/other-{n}")
    expect(prometheus, "PulseListingShrank")

    # A namespace that expires soon with messages in its queue: its owner is told, and there is no mail server.
    service.stop()
    service = Service(folder, ["serve"], NOTIFY_METHOD="smtp", NOTIFY_SMTP_URL="smtp://127.0.0.1:9?tls=none", NOTIFY_FROM="p@example.com").ready()
    rabbit("PUT", "queues/%2F/queue%2Ftaskcluster-a%2Fjobs", {"durable": True})
    publish = {"properties": {}, "routing_key": "queue/taskcluster-a/jobs", "payload": "x", "payload_encoding": "string"}
    rabbit("POST", "exchanges/%2F/amq.default/publish", publish)
    expect(prometheus, "PulseNoticesLate")

    # Many namespaces that expire at once: the brakes hold.
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 12))
    claim = lambda n: [PROGRAM, "claim", f"taskcluster-soon-{n}", "--expires", at]
    quietly = {"cwd": folder, "env": service.environment, "stdout": subprocess.DEVNULL}
    soon = [subprocess.Popen(claim(n), **quietly) for n in range(30)]
    check("thirty claims are answered", all(one.wait() == 0 for one in soon))
    expect(prometheus, "PulseBrakeTripped", seconds=40)
    service.stop()
    service = Service(folder, ["serve"], MONITOR_MAX_REMOVAL_SHARE="100%", MONITOR_MAX_OWNER_SHARE="100%").ready()
    expect(prometheus, "PulseDeletionsUnusual", seconds=40)
    quiet(prometheus, "PulseBrakeTripped")

    # A consumer holds what it gets.
    claim = service.run("claim", "taskcluster-held")
    held = {"env": {**service.environment, "PULSE_CONNECTION_STRING": claim.stdout.strip()}, "stdout": subprocess.DEVNULL}
    names = ["exchange/taskcluster-held/all", "queue/taskcluster-held/all"]
    subprocess.run([AMQP, "publish", *names, "150"], check=True, **held)
    holder = subprocess.Popen([AMQP, "hold", names[1]], **held)
    processes.append(holder)
    expect(prometheus, "PulseUnackedHoard", seconds=40)
    holder.kill()
    quiet(prometheus, "PulseUnackedHoard", seconds=40)

    # RabbitMQ stands still.
    with Frozen("rabbitmq"):
        expect(prometheus, "PulseBrokerUnreachable", "PulseRotationLate", "PulseCredentialsEndSoon", "PulseRotationStopped", "PulseTaskStopped", seconds=40)
        revoked = service.run("revoke", "taskcluster-a", "--reason", "a test")
        check("a revocation is stored while RabbitMQ stands still", "stored" in revoked.stdout, revoked.stdout + revoked.stderr)
        expect(prometheus, "PulseRevocationPending")
    quiet(prometheus, "PulseBrokerUnreachable", "PulseRevocationPending", "PulseRotationStopped", "PulseTaskStopped", seconds=60)

    # The database stands still: what is not in memory can't be claimed.
    with Frozen("postgresql"):
        done = threading.Event()
        trying = threading.Thread(target=try_claims, args=(service, done))
        trying.start()
        claims = ["PulseClaimsFailFast", "PulseClaimsFail", "PulseClaimsFailSlowly", "PulseClaimsFailNowAndThen"]
        expect(prometheus, "PulseDatabaseUnreachable", "PulseServiceMetricsMissing", "PulseStoreWritesFail", *claims)
        done.set()
        trying.join()
        check("metrics of the process are told all the same", "pulse_claims_total{" in service.scrape())
    quiet(prometheus, "PulseDatabaseUnreachable", "PulseServiceMetricsMissing")

    # A second process whose clock is ahead, and for which there is no auth service.
    ahead = {"LD_PRELOAD": f"{os.environ['PULSE_FAKETIME']}/libfaketimeMT.so.1", "FAKETIME": "+60s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    other = Service(folder, ["web"], "b", AUTH_MODE="both", TASKCLUSTER_ROOT_URL="http://127.0.0.1:9", **ahead).ready()
    expect(prometheus, "PulseClockWrong", "PulseAuthUnreachable")
    other.stop()
    expect(prometheus, "PulseInstanceDown")

    # A certificate that ends in five days.
    with ShortLived(folder) as tls:
        other = Service(folder, ["web"], "b", TASKCLUSTER_ROOT_URL=f"https://localhost:{tls}").ready()
        expect(prometheus, "PulseTlsEndsSoon")
        other.stop()

    # Only a worker is left, and then nobody.
    service.stop()
    service = Service(folder, ["worker"]).ready()
    expect(prometheus, "PulseNoHeartbeat")
    service.stop()
    expect(prometheus, "PulseNotScraped")

    named = set(re.findall(r"alert: (\S+)", RULES.read_text()))
    left = named - FIRED
    check("each alert was made to fire", not left, str(sorted(left)))


with tempfile.TemporaryDirectory(prefix="pulse-alerts.") as name:
    try:
        main(Path(name))
    finally:
        for process in processes:
            process.kill()
            process.wait()
        keep = os.environ.get("PULSE_ALERTS_KEEP")
        if keep:
            subprocess.run(["cp", "-r", name, keep], check=False)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
