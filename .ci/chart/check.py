#!/usr/bin/env python3
"""The Helm chart: linted, rendered over a matrix of values, and what comes out held against Kubernetes' schemas,
restricted Pod Security, rules that an API server adds, its own Services and probes, and `postseal check-config`.

usage: check.py HELM POSTSEAL SCHEMAS    (SCHEMAS: a directory with one directory of JSON schemas per version)
"""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import yaml

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent.parent / "helm" / "postseal"
RECOMMENDED = ["name", "instance", "version", "managed-by"]
# Volumes that restricted Pod Security allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SAFE_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start"}
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}

failures = 0


def report(name, problems):
    global failures
    problems = list(problems)
    failures += bool(problems)
    print(f"{'FAIL ' if problems else 'ok   '} {name}" + (f": {'; '.join(problems[:5])}" if problems else ""))


class Tools:
    def __init__(self, helm, postseal, schemas):
        self.helm, self.postseal = helm, os.path.realpath(postseal)
        self.schemas = pathlib.Path(schemas)
        self.versions = sorted(path.name for path in self.schemas.iterdir())

    def run(self, *arguments):
        return subprocess.run([self.helm, *map(str, arguments)], capture_output=True, text=True)

    def render(self, chart, version, *arguments):
        """The documents of `helm template` for a version of Kubernetes."""
        result = self.run("template", "postseal", chart, "--namespace", "mail", "--kube-version", version, *arguments)
        if result.returncode:
            raise SystemExit(f"FAIL  {arguments}: {result.stderr}")
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    def notes_spec(self, values):
        """The part of a pod that the notes tell to paste."""
        result = self.run("install", "postseal", CHART, "--namespace", "mail", "--dry-run=client", "--values", values)
        notes = result.stdout.split("\nNOTES:\n")[1]
        return yaml.safe_load(re.search(r"^    spec:\n(?:      .*\n)*", notes, re.M).group(0))["spec"]

    @functools.cache
    def validator(self, version, kind, api):
        """That of a kind, None where there is no schema."""
        # apps/v1 is apps-v1, rbac.authorization.k8s.io/v1 is rbac-v1.
        group, _, version_of_api = api.rpartition("/")
        name = "-".join(filter(None, [kind.lower(), group.split(".")[0], version_of_api])) + ".json"
        found = [path for path in (self.schemas / version / name, HERE / "schemas" / name) if path.exists()]
        if not found:
            return None
        schema = json.loads(found[0].read_text())
        definitions = json.loads((self.schemas / version / "_definitions.json").read_text())
        resolver = jsonschema.RefResolver(schema.get("$id", ""), schema, {definitions["$id"]: definitions})
        return jsonschema.Draft202012Validator(schema, resolver=resolver)

    def schema_problems(self, document, version):
        kind = document["kind"]
        validator = self.validator(version, kind, document["apiVersion"])
        if not validator:
            return [f"no schema of {kind}"]
        errors = validator.iter_errors(document)
        return [f"{kind} {'/'.join(map(str, error.path))}: {error.message[:200]}" for error in errors]


def pod_of(document):
    if document["kind"] == "Pod":
        return document
    return document["spec"]["template"] if document["kind"] in WORKLOADS | {"Job"} else None


def containers_of(pod):
    spec = pod["spec"]
    return [c for c in spec.get("initContainers", []) + spec["containers"] if c["name"] in ("postseal", "query", "check-config")]


def security_problems(pod):
    """The Pod Security Standards, profile "restricted", for our containers and volumes."""
    spec = pod["spec"]
    for sysctl in spec.get("securityContext", {}).get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        if not VOLUMES & set(volume):
            yield f"volume {volume['name']}"
    for container in containers_of(pod):
        context = container["securityContext"]
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        if context.get("runAsUser", 65532) == 0:
            yield f"{container['name']}: runs as root"
        for field, value in wanted.items():
            if context.get(field) != value:
                yield f"{container['name']}: {field} is {context.get(field)}"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "hostPort"


def quantity(text):
    """A quantity of Kubernetes as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()
    units = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(number) * units[unit]


def server_problems(document):
    """What an API server refuses although the schema allows it."""
    pod, spec = pod_of(document), document.get("spec", {})
    for container in containers_of(pod) if pod else []:
        resources = container.get("resources", {})
        for name, limit in resources.get("limits", {}).items():
            if quantity(resources.get("requests", {}).get(name, 0)) > quantity(limit):
                yield f"{container['name']}: more {name} requested than its limit"
    if document["kind"] in WORKLOADS and not spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items():
        yield f"{document['kind']} does not select its own pods"
    if document["kind"] == "Service":
        families, policy = spec.get("ipFamilies", []), spec.get("ipFamilyPolicy")
        if len(families) == 2 and policy == "SingleStack":
            yield "two families for a single stack"
        if spec["type"] == "ClusterIP" and any("nodePort" in port for port in spec["ports"]):
            yield "a node's port for a ClusterIP"
    if document["kind"] == "HorizontalPodAutoscaler" and spec["minReplicas"] > spec["maxReplicas"]:
        yield "fewest replicas are more than most replicas"
    for strategy in (spec.get("strategy", {}), spec.get("updateStrategy", {})):
        rolling = strategy.get("rollingUpdate", {})
        if rolling and not any(rolling.get(key, 1) for key in ("maxSurge", "maxUnavailable")):
            yield "neither surge nor unavailable pods"
    names = [*document["metadata"].get("labels", {}).values()]
    for value in names:
        if not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value):
            yield f"label {value}"
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", document["metadata"]["name"]):
        yield f"name {document['metadata']['name']}"


def immutable(document):
    """The parts of a resource that an API server does not let an upgrade change."""
    spec, kind = document.get("spec", {}), document["kind"]
    if kind in WORKLOADS:
        fields = ["selector"]
        if kind == "StatefulSet":
            fields += ["serviceName", "podManagementPolicy", "volumeClaimTemplates"]
        return {field: spec[field] for field in fields if field in spec}
    if kind == "PersistentVolumeClaim":
        return spec
    if kind == "Service":
        return {"clusterIP": spec["clusterIP"]} if spec.get("clusterIP") else {}
    return {}


def check_upgrade(tools):
    """From the last version of the chart, whose immutable fields are kept in previous.json, to this one: nothing
    that an API server refuses."""
    previous = json.loads((HERE / "previous.json").read_text())
    for case in previous["cases"]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(case["values"], file)
            file.flush()
            documents = tools.render(CHART, tools.versions[-1], "--values", file.name)
        now = {f"{d['kind']}/{d['metadata']['name']}": immutable(d) for d in documents}
        problems = [
            f"{name}: {field} was {value}, is {now[name].get(field)}"
            for name, fields in case["immutable"].items()
            if name in now
            for field, value in fields.items()
            if now[name].get(field) != value
        ]
        missing = [name for name in case["immutable"] if name not in now]
        problems += [f"{name} is gone" for name in missing]
        report(f"upgrade from chart {previous['version']}, {case['name']}", problems)


def hooks_apart(documents):
    """What is installed, and what runs before it."""
    is_hook = lambda d: "helm.sh/hook" in d["metadata"].get("annotations", {})
    return [d for d in documents if not is_hook(d)], [d for d in documents if is_hook(d)]


def config_check_problems(documents):
    """The Job before an upgrade reads the very configuration that comes, in the environment that comes."""
    installed, hooks = hooks_apart(documents)
    jobs = [d for d in hooks if d["kind"] == "Job"]
    texts = [d["data"]["postseal.toml"] for d in hooks if "postseal.toml" in d.get("data", {})]
    if not jobs:
        return
    if texts != [documents_config(installed)]:
        yield "the check reads another configuration"
    servers = [c for d in installed if d["kind"] in WORKLOADS for c in containers_of(pod_of(d))]
    for server in servers:
        (check,) = containers_of(pod_of(jobs[0]))
        for field in ("image", "env", "envFrom"):
            if check.get(field) != server.get(field):
                yield f"the check has another {field}"


def wiring_problems(documents):
    """Names and ports that one document uses and another has."""
    pods = [pod_of(document) for document in documents if document["kind"] in WORKLOADS]
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    config_maps = {d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"}
    for document in documents:
        if document["kind"] == "Service":
            selected = [p for p in pods if document["spec"]["selector"].items() <= p["metadata"]["labels"].items()]
            if not selected:
                yield f"Service {document['metadata']['name']} selects nothing"
            for pod in selected:
                ports = {p["name"]: p.get("protocol", "TCP") for c in containers_of(pod) for p in c["ports"]}
                for port in document["spec"]["ports"]:
                    if ports.get(port["targetPort"]) != port.get("protocol", "TCP"):
                        yield f"Service port {port['name']} leads nowhere"
        pod = pod_of(document)
        if not pod:
            continue
        made = {c["metadata"]["name"] for c in document["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for container in containers_of(pod):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container and container[probe]["httpGet"]["port"] not in ports:
                    yield f"{probe} asks no port of its container"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in made | set(volumes):
                    yield f"no volume {mount['name']}"
        config = volumes.get("postseal-config", {}).get("configMap", {}).get("name")
        if config and config not in config_maps:
            yield f"no ConfigMap {config}"
        claim = volumes.get("postseal-state", {}).get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in claims | {"mine", "state"}:
            yield f"no claim {claim}"


def label_problems(documents):
    for document in documents:
        labels = document["metadata"].get("labels", {})
        missing = [name for name in RECOMMENDED if f"app.kubernetes.io/{name}" not in labels]
        if missing:
            yield f"{document['kind']} lacks {missing}"


def config_problems(tools, documents):
    """Runs `postseal check-config` as the container would, and looks at where it listens."""
    documents, _ = hooks_apart(documents)
    texts = [d["data"]["postseal.toml"] for d in documents if "postseal.toml" in d.get("data", {})]
    containers = [c for d in documents if pod_of(d) for c in containers_of(pod_of(d)) if c["name"] == "postseal"]
    if len(texts) != 1:
        yield f"{len(texts)} configurations"
        return
    environment = {v["name"]: v["value"] for c in containers for v in c.get("env", []) if "value" in v}
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "postseal.toml")
        file.write_text(texts[0])
        result = subprocess.run(
            [tools.postseal, "--config", file, "check-config"], env=environment, capture_output=True, text=True
        )
    if result.returncode:
        yield result.stderr.strip()
    # The shape that a port needs is seen in the check's own output, not in what was put in.
    for container in containers:
        for port in container["ports"]:
            number = port["containerPort"]
            if f":{number}\"" not in result.stdout:
                yield f"nothing listens on container port {number}"


def check_matrix(tools):
    for file in sorted(HERE.glob("matrix/*.yaml")) + sorted(CHART.glob("ci/*-values.yaml")) + [CHART / "examples" / f"{n}.yaml" for n in ("many-postfix", "sidecar")]:
        lint = tools.run("lint", "--strict", CHART, "--values", file)
        problems = [] if lint.returncode == 0 else [lint.stdout + lint.stderr]
        kinds = 0
        for version in tools.versions:
            documents = tools.render(CHART, version, "--values", file)
            kinds = len({document["kind"] for document in documents})
            for document in documents:
                problems += tools.schema_problems(document, version)
                problems += server_problems(document)
                if pod_of(document):
                    problems += security_problems(pod_of(document))
            problems += wiring_problems(documents)
            problems += label_problems(documents)
        problems += config_check_problems(documents)
        problems += config_problems(tools, documents)
        report(f"{file.stem}: lint, schemas of {', '.join(tools.versions)}, security, wiring, configuration ({kinds} kinds)", problems)


def check_the_checks(tools):
    """What is wrong must be noticed: one mistake of each sort."""
    def noticed(name, break_it, find):
        documents = tools.render(CHART, tools.versions[-1])
        workload = next(document for document in documents if document["kind"] in WORKLOADS)
        break_it(workload, workload["spec"]["template"]["spec"]["containers"][0])
        report(f"noticed: {name}", [] if list(find(documents, workload)) else ["not noticed"])

    def schema(_, workload):
        return tools.schema_problems(workload, tools.versions[-1])

    noticed("an unknown field", lambda _, c: c.update(imagePullpolicy="Always"), schema)
    noticed("a field of another type", lambda _, c: c.update(args="serve"), schema)
    noticed("a missing selector", lambda w, _: w["spec"].pop("selector"), schema)
    noticed("more requested than the limit", lambda _, c: c["resources"]["requests"].update(memory="1Gi"),
            lambda _, w: server_problems(w))
    noticed("a capability", lambda _, c: c["securityContext"].update(capabilities={"add": ["NET_ADMIN"]}),
            lambda _, w: security_problems(w["spec"]["template"]))
    noticed("a port that is missing", lambda _, c: c["ports"].pop(0), lambda d, _: wiring_problems(d))
    noticed("an address that cannot be", lambda _, c: c["env"][1].update(value="nowhere"),
            lambda d, _: config_problems(tools, d))


def check_refusals(tools):
    for case in yaml.safe_load((HERE / "refused.yaml").read_text()):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(case["values"], file)
            file.flush()
            result = tools.run("template", "postseal", CHART, "--values", file.name)
        said = result.stderr if result.returncode else "nothing: accepted"
        report(f"refused: {json.dumps(case['values'])}", [] if case["says"] in said else [said])


def pod_from(example):
    """A pod made of what an example gives another chart for its own."""
    values = yaml.safe_load((CHART / "examples" / f"{example}.yaml").read_text())
    mailu, dms = values.get("postfix", {}), values.get("deployment", {})
    security = dict(mailu.get("podSecurityContext") or values.get("securityContext") or {})
    security.pop("enabled", None)
    spec = {
        "containers": [{"name": "postfix", "image": "postfix"}],
        "initContainers": mailu.get("initContainers") or dms.get("initContainers") or [],
        "volumes": mailu.get("extraVolumes") or dms.get("extraVolumes") or [],
        "securityContext": {key: value for key, value in security.items() if value is not None},
    }
    spec.update({key: mailu[key] for key in ("dnsPolicy", "dnsConfig") if key in mailu})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "postfix"}, "spec": spec}


def check_sidecar(tools):
    """The templates in somebody else's chart, the notes, and the examples: the same sidecar."""
    version = tools.versions[-1]
    with tempfile.TemporaryDirectory() as directory:
        parent = pathlib.Path(directory, "parent")
        shutil.copytree(HERE / "parent", parent)
        shutil.copytree(CHART, parent / "charts" / "postseal")
        documents = tools.render(parent, version)
    problems = [p for document in documents for p in tools.schema_problems(document, version)]
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    problems += security_problems(deployment["spec"]["template"])
    problems += wiring_problems(documents)
    problems += config_problems(tools, documents)
    report("sidecar in a parent chart: schemas, security, wiring, configuration", problems)

    side = spec["initContainers"][0]
    environment = {variable["name"]: variable.get("value") for variable in side["env"]}
    report("the sidecar is native, and Postfix's resolver", [
        problem
        for problem, bad in {
            "restartPolicy": side.get("restartPolicy") != "Always",
            "startupProbe": "startupProbe" not in side,
            "dnsPolicy": spec["dnsPolicy"] != "None",
            "nameservers": spec["dnsConfig"]["nameservers"] != ["127.0.0.1"],
            "listen": environment["POSTSEAL_DNS__LISTEN"] != "127.0.0.1:53,[::1]:53",
            "forward": "cluster.local" not in documents_config(documents),
        }.items()
        if bad
    ])

    example = CHART / "examples" / "sidecar.yaml"
    pasted = tools.notes_spec(example)
    expected = {"dnsPolicy", "dnsConfig", "securityContext", "initContainers", "volumes"}
    report("the notes show the same sidecar", [f"{key} differs" for key in expected if pasted.get(key) != spec[key]])
    for name in ("mailu-sidecar", "docker-mailserver"):
        pod = pod_from(name)
        problems = tools.schema_problems(pod, version) + list(security_problems(pod))
        problems += [f"{key} differs" for key in ("initContainers", "volumes", "securityContext") if pod["spec"][key] != pasted[key]]
        if name == "mailu-sidecar":
            problems += [f"{key} differs" for key in ("dnsPolicy", "dnsConfig") if pod["spec"][key] != pasted[key]]
        report(f"example {name}: the same sidecar, by the schema of a Pod", problems)


def documents_config(documents):
    return next(d["data"]["postseal.toml"] for d in documents if "postseal.toml" in d.get("data", {}))


def check_service_notes(tools):
    """The dnsConfig that the notes give Postfix pods is what the example for Mailu has."""
    example = CHART / "examples" / "many-postfix.yaml"
    pasted = tools.notes_spec(example)
    mailu = yaml.safe_load((CHART / "examples" / "mailu.yaml").read_text())
    problems = []
    for part in ("admin", "rspamd", "postfix"):
        problems += [f"{part}.{key} differs" for key in ("dnsPolicy", "dnsConfig") if mailu[part][key] != pasted[key]]
    if "socketmap:inet:postseal.mail.svc.cluster.local:8642:QUERY" not in mailu["postfix"]["overrides"]["postfix.cf"]:
        problems.append("another address")
    report("example mailu: the dnsConfig and address of the notes", problems)


def main():
    tools = Tools(*sys.argv[1:4])
    check_the_checks(tools)
    check_matrix(tools)
    check_refusals(tools)
    check_upgrade(tools)
    check_sidecar(tools)
    check_service_notes(tools)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
