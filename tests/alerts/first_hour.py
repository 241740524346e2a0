"""Runs the commands of "The first hour" in docs/operating.md in a shell, as they are written there.

Two of its blocks are not run: what is installed and built is there already, and everything is to be found at other ports.

Run by script/test-alerts.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = (ROOT / sys.argv[1]).resolve()
SERVICES = Path(os.environ["PULSE_TEST_SERVICES_DIR"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def blocks():
    section = re.search(r"\n## The first hour\n(.*?)\n## ", (ROOT / "docs/operating.md").read_text(), re.S)[1]
    install, places, *others = re.findall(r"```sh\n(.*?)```\n", section, re.S)
    assert install.startswith("apt-get install"), install
    values = {
        "RABBITMQ": os.environ["PULSE_TEST_RABBITMQ_API"],
        "AMQP_PORT": os.environ["PULSE_TEST_RABBITMQ_AMQP"].split(":")[1],
        "PORT": str(free_port()),
        "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
        "PROMETHEUS": f"127.0.0.1:{free_port()}",
    }
    assert sorted(re.findall(r"(\w+)=", places)) == sorted(values), places
    return values, others


def main(folder):
    values, others = blocks()
    # RabbitMQ's own commands, for the private node.
    shims = folder / "bin"
    shims.mkdir()
    inside = SERVICES / "rabbitmq/in-environment"
    programs = (SERVICES / "rabbitmq/programs").read_text().strip()
    for name in ("rabbitmqctl", "rabbitmq-plugins"):
        (shims / name).write_text(f'#!/bin/sh\nexec "{inside}" "{programs}/{name}" "$@"\n')
        (shims / name).chmod(0o755)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    variables = {"PATH": f"{shims}:{PROGRAMS}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HOME": str(folder)}
    script = "".join(f"printf '\\n#### {number}\\n'\n{block}" for number, block in enumerate(others))
    with open(folder / "output", "wb") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={**variables, **values},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = shell.wait(timeout=240)
        except subprocess.TimeoutExpired:
            status = "none after 240 s"
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    output = (folder / "output").read_text()
    said = dict(enumerate(re.split(r"\n#### \d+\n", output)[1:]))
    logs = [path.read_text()[-2000:] for path in folder.glob("first-hour/*.log")]
    end = "\n".join([f"status {status}:", output[-3000:], *logs])
    # From RabbitMQ 4.1 on, the service warns of old clients.
    major, minor = os.environ["PULSE_TEST_RABBITMQ_VERSION"].split(".")[:2]
    level = "warning" if (int(major), int(minor)) >= (4, 1) else "ok"
    expected = [
        ("an account for the service is made", 0, "rabbitmq_management"),
        ("the service starts, and is healthy", 1, f'"status": "{level}"'),
        ("doctor finds nothing wrong", 2, "ok"),
        ("a claim is answered", 3, "amqp://taskcluster-ci-builds-1:"),
        ("a page can be read", 4, "<title>"),
        ("the claim is counted", 5, 'pulse_claims_total{result="given",source="broker"} 1'),
        ("an alert comes through", 6, "PulseWatchdog"),
        ("Prometheus notices that the service is gone", 7, "PulseInstanceDown"),
    ]
    failed = 0
    for name, number, text in expected:
        good = text in said.get(number, "") and (status == 0 or number + 1 in said)
        failed += not good
        print(f"ok the first hour: {name}" if good else f"FAILED the first hour: {name}: {end}", flush=True)
    print(f"{len(expected) - failed} passed, {failed} failed", flush=True)
    return failed or len(others) != len(expected)


with tempfile.TemporaryDirectory(prefix="pulse-first-hour.") as name:
    sys.exit(1 if main(Path(name)) else 0)
