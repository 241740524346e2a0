"""Checks the files of deploy/, heroku.yml and app.json against each other and against the program.

Usage: manifests.py <program> <file of rendered manifests>...

Prints `ok <name>` or `FAILED <name>: <why>` for each check.
"""

import json
import pathlib
import re
import subprocess
import sys

import yaml

program, *rendered = sys.argv[1:]
root = pathlib.Path(__file__).resolve().parents[2]


def check(name, problems):
    print(f"FAILED {name}: {'; '.join(problems)}" if problems else f"ok {name}", flush=True)


def said(*arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=True).stdout


settings = set(re.findall(r"^([A-Z][A-Z0-9_]+)(?:,| )", said("settings"), re.MULTILINE))
# What the client side of the program reads.
settings |= {"TASKCLUSTER_CLIENT_ID", "TASKCLUSTER_ACCESS_TOKEN"}
commands = set(re.findall(r"^  ([a-z-]+)", said("--help").split("Commands:")[1].split("Options:")[0], re.MULTILINE))


def unknown(where, names):
    return [f"{where} has {name}, which is no setting" for name in names if name not in settings]


def keys(path):
    return [line.split("=", 1)[0] for line in path.read_text().splitlines() if line and not line.startswith("#")]


problems = [
    problem for path in sorted(root.glob("deploy/kubernetes/**/*.env")) for problem in unknown(path.name, keys(path))
]
check("each variable of the Kubernetes manifests is a setting", problems)

app = json.loads((root / "app.json").read_text())
heroku = yaml.safe_load((root / "heroku.yml").read_text())
check("each variable of app.json is a setting", unknown("app.json", app["env"]))

procfile = dict(line.split(": ", 1) for line in (root / "Procfile").read_text().splitlines())
lines = {**procfile, **heroku["run"], "release of heroku.yml": heroku["release"]["command"][0]}
problems = [
    f"{name} runs {line!r}"
    for name, line in lines.items()
    if not line.startswith("taskcluster-pulse ") or line.split()[1] not in commands
]
problems += [f"app.json scales {name}, which heroku.yml does not run" for name in app["formation"] if name not in heroku["run"]]
check("each line of the Procfile and of heroku.yml runs a command that there is", problems)

compose = yaml.safe_load((root / "docker-compose.yml").read_text())
problems = []
for name, service in compose["services"].items():
    if service.get("image") == "taskcluster-pulse":
        problems += unknown(f"docker-compose.yml: {name}", service["environment"])
        if service["command"][0] not in commands:
            problems.append(f"docker-compose.yml: {name} runs {service['command']}")
check("docker-compose.yml runs commands that there are, with settings that there are", problems)

for path in rendered:
    problems = []
    objects = [one for one in yaml.safe_load_all(pathlib.Path(path).read_text()) if one]
    configured = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    pods = [one["spec"]["template"] for one in objects if one["kind"] == "Deployment"]
    for pod in pods:
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            name = container["name"]
            ports = {port["name"] for port in container.get("ports", [])}
            probes = [container[probe] for probe in container if probe.endswith("Probe")]
            problems += [f"{name} is probed at {p['httpGet']['port']}" for p in probes if p["httpGet"]["port"] not in ports]
            if container["args"][0] not in commands:
                problems.append(f"{name} runs {container['args']}")
            security = {**pod["spec"]["securityContext"], **container["securityContext"]}
            if not security["runAsNonRoot"] or not security["readOnlyRootFilesystem"] or security["allowPrivilegeEscalation"]:
                problems.append(f"{name} may do too much")
            sources = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
            problems += [f"{name} reads {source}, which is not there" for source in sources if source not in configured]
    for one in objects:
        selector = one["spec"].get("selector") if one["kind"] in ("Service", "PodDisruptionBudget") else None
        labels = (selector or {}).get("matchLabels", selector)
        if labels and not any(labels.items() <= pod["metadata"]["labels"].items() for pod in pods):
            problems.append(f"{one['kind']} {one['metadata']['name']} selects no pod")
    if not pods:
        problems.append("there is no Deployment")
    check(f"{pathlib.Path(path).stem}: ports, commands, rights and selectors fit each other", problems)
