"""Checks deploy/: schemas, hardening, pins, and that the files agree with one another and with aftercheck.

Started by `check`. Every fault is printed; the exit code is 1 where there is one.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
OVERLAYS = ["rabbitmq", "sqs", "kafka"]
# Native sidecars are on by default since 1.29.
KUBERNETES = "1.29"
# What KEDA 2.20 reads of each trigger, from its documentation: what we use, and what it cannot do without.
TRIGGERS = {
    "rabbitmq": ({"protocol", "queueName", "mode", "value"}, {"host"}),
    "aws-sqs-queue": ({"queueURL", "awsRegion", "queueLength", "scaleOnInFlight"}, set()),
    "kafka": (
        {"bootstrapServers", "topic", "consumerGroup", "lagThreshold", "offsetResetPolicy", "allowIdleConsumers"},
        {"sasl", "tls"},
    ),
}
# The last look at the queue, closing it, deliveries, database and HTTP, beside `[pipeline] grace_secs`; a broker that hangs
# included. See src/pipeline/mod.rs and src/service.rs.
END_SECS = 20

faults = []


def expect(holds, fault):
    """Notes a fault."""
    if not holds:
        faults.append(fault)


class Strict(yaml.SafeLoader):
    """YAML that says a key once."""

    def construct_mapping(self, node, deep=False):
        """Refuses a key that is there twice; merged ones may be overwritten."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path):
    """The documents of a file."""
    return [document for document in yaml.load_all(path.read_text(), Strict) if document]


def toml(path):
    """A configuration."""
    return tomllib.loads(path.read_text())


GRACE_SECS = toml(ROOT / "aftercheck.example.toml")["pipeline"]["grace_secs"]


def manifests(overlay):
    """What would be applied."""
    folder = HERE / "kubernetes" / overlay
    for path in [*folder.glob("*.yaml"), *(HERE / "kubernetes/base").glob("*.yaml")]:
        load(path)
    if not shutil.which("kubectl"):
        print(f"skipped: kubectl is missing, {overlay} is checked without its patches")
        names = [HERE / "kubernetes/base" / name for name in ["service-account", "deployment", "pod-disruption-budget"]]
        files = [path.with_suffix(".yaml") for path in names] + [folder / "scaled-object.yaml"]
        return [document for path in files for document in load(path)]
    command = ["kubectl", "kustomize", str(folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return list(yaml.safe_load_all(text))


def check_kubernetes(overlay):
    """Schemas, hardening and agreement of one overlay."""
    documents = manifests(overlay)
    by_kind = {document["kind"]: document for document in documents}
    for document in documents:
        if document["apiVersion"].startswith("keda.sh/"):
            continue
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except Exception as error:  # its own class, and jsonschema's
            faults.append(f"{overlay}: {document['kind']}: {str(error).splitlines()[0]}")
    deployment = by_kind["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    security = pod["securityContext"]
    expect(security["runAsNonRoot"] and security["runAsUser"] > 0, f"{overlay}: the pod may run as root")
    expect(security["seccompProfile"] == {"type": "RuntimeDefault"}, f"{overlay}: no seccomp profile")
    expect(pod["automountServiceAccountToken"] is False, f"{overlay}: the pod gets a token of the cluster")
    grace = pod["terminationGracePeriodSeconds"]
    expect(grace >= GRACE_SECS + END_SECS, f"{overlay}: {grace} s to end, grace_secs {GRACE_SECS} needs more")
    for container in [*pod["initContainers"], *pod["containers"]]:
        at = f"{overlay}: {container['name']}"
        context = container["securityContext"]
        expect(context["readOnlyRootFilesystem"], f"{at}: its root can be written")
        expect(context["allowPrivilegeEscalation"] is False, f"{at}: it may gain privileges")
        expect(context["capabilities"] == {"drop": ["ALL"]}, f"{at}: it has capabilities")
        expect("memory" in container["resources"]["limits"], f"{at}: no limit of memory")
        for entry in container.get("env", []):
            secret = "valueFrom" in entry or entry["name"] == "AFTERCHECK_CONFIG"
            expect(secret, f"{at}: {entry['name']} belongs in a secret")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    budget = by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items()
    expect(budget <= labels, f"{overlay}: the disruption budget matches no pod")
    check_keda(overlay, by_kind)


def check_keda(overlay, by_kind):
    """The scaler asks the queue that the workers read."""
    scaled, authentication = by_kind["ScaledObject"], by_kind["TriggerAuthentication"]
    spec = scaled["spec"]
    expect(spec["scaleTargetRef"]["name"] == by_kind["Deployment"]["metadata"]["name"], f"{overlay}: scales nothing")
    expect(spec["minReplicaCount"] >= 1, f"{overlay}: without a worker nothing is delivered to sinks")
    expect({"failureThreshold", "replicas"} <= spec["fallback"].keys(), f"{overlay}: no fallback")
    (trigger,) = spec["triggers"]
    used, needed = TRIGGERS[trigger["type"]]
    metadata = trigger["metadata"]
    expect(metadata.keys() == used, f"{overlay}: metadata {sorted(metadata.keys() ^ used)} of the trigger")
    expect(all(isinstance(value, str) for value in metadata.values()), f"{overlay}: metadata that is no string")
    name = trigger["authenticationRef"]["name"]
    expect(name == authentication["metadata"]["name"], f"{overlay}: no TriggerAuthentication {name}")
    given = {entry["parameter"] for entry in authentication["spec"].get("secretTargetRef", [])}
    expect(needed <= given, f"{overlay}: the TriggerAuthentication lacks {sorted(needed - given)}")
    source = toml(HERE / "kubernetes" / overlay / "aftercheck.toml")["source"]
    settings = source[source["kind"]]
    expect(source["kind"] == overlay, f"{overlay}: [source] kind is {source['kind']}")
    pairs = {
        "rabbitmq": [("queueName", "queue")],
        "sqs": [("awsRegion", "region")],
        "kafka": [("topic", "topic"), ("consumerGroup", "group"), ("bootstrapServers", "brokers")],
    }
    for ours, theirs in pairs[overlay]:
        expect(metadata[ours] == settings[theirs], f"{overlay}: {ours} is not [source.{overlay}] {theirs}")
    if overlay == "sqs":
        expect(metadata["queueURL"].endswith("/" + settings["queue"]), "sqs: queueURL is not [source.sqs] queue")


def check_compose():
    """Hardening, pins and secrets of compose.yml."""
    (compose,) = load(HERE / "compose.yml")
    for name, service in compose["services"].items():
        at = f"compose.yml: {name}"
        expect(service.get("read_only") is True, f"{at}: its root can be written")
        expect(service.get("cap_drop") == ["ALL"], f"{at}: it has capabilities")
        expect(service.get("security_opt") == ["no-new-privileges:true"], f"{at}: it may gain privileges")
        expect("mem_limit" in service, f"{at}: no limit of memory")
        ours = "build" in service
        expect(ours or "@sha256:" in service["image"], f"{at}: its image is not pinned by digest")
        expect(ours or service.get("user", "0").split(":")[0] not in {"0", "root"}, f"{at}: it runs as root")
        for key, value in service.get("environment", {}).items():
            expect(key.endswith("_FILE") or "PASS" not in key, f"{at}: {key} is a password")
            expect(not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{at}: {key} holds a password")
        for port in service.get("ports", []):
            expect(port.startswith("127.0.0.1:"), f"{at}: port {port} is open to the network")
        for secret in service.get("secrets", []):
            source = secret if isinstance(secret, str) else secret["source"]
            expect(source in compose["secrets"], f"{at}: no secret {source}")
        for config in service.get("configs", []):
            expect((HERE / compose["configs"][config["source"]]["file"]).is_file(), f"{at}: no file {config}")
    worker = compose["services"]["worker-1"]
    grace = int(worker["stop_grace_period"].removesuffix("s"))
    expect(grace >= GRACE_SECS + END_SECS, f"compose.yml: {grace} s to end, grace_secs {GRACE_SECS} needs more")
    config = toml(HERE / "aftercheck.toml")
    for section in [config["postgres"], config["source"]["rabbitmq"]]:
        secret = pathlib.PurePath(section["password_file"]).name
        expect(secret in worker["secrets"], f"aftercheck.toml: no secret {section['password_file']}")


def check_image():
    """Pins and user of the Dockerfile, and that .dockerignore lets through what cargo needs."""
    dockerfile = (HERE / "Dockerfile").read_text()
    for base in re.findall(r"^FROM (\S+)", dockerfile, re.M):
        expect(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", base), f"Dockerfile: {base} is not pinned")
    (user,) = re.findall(r"^USER (\S+)", dockerfile, re.M)
    expect(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), f"Dockerfile: user {user} is not a number")
    expect("HEALTHCHECK" in dockerfile and "--features kafka" in dockerfile, "Dockerfile: health or kafka is missing")
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    allowed = [line[1:] for line in lines if line.startswith("!")]
    expect("*" in lines, ".dockerignore: it is no list of what goes in")
    with tempfile.TemporaryDirectory() as context:
        for name in allowed:
            source, target = ROOT / name, pathlib.Path(context, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.is_file():
                shutil.copy(source, target)
            else:
                faults.append(f".dockerignore: {name} is not there")
        command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]
        cargo = subprocess.run(command, cwd=context, capture_output=True, text=True, check=False, timeout=60)
        expect(cargo.returncode == 0, f".dockerignore: {cargo.stderr.strip()}")
        # `cargo build` wants the files of all targets that are declared, built or not; `cargo metadata` does not look.
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
        for kind, folder in [("bench", "benches"), ("example", "examples"), ("test", "tests")]:
            for target in manifest.get(kind, []):
                path = target.get("path", f"{folder}/{target['name']}.rs")
                expect(pathlib.Path(context, path).exists(), f".dockerignore: {path} does not go in")
        for path in pathlib.Path(context, "src").rglob("*.rs"):
            text = path.read_text()
            included = [path.parent / name for name in re.findall(r'include_\w+!\(\s*"([^"]+)"', text)]
            included += [pathlib.Path(context, name) for name in re.findall(r'migrate!\("([^"]+)"', text)]
            # Askama reads templates when it compiles; models are read from where the image puts them.
            included += [pathlib.Path(context, "templates", name) for name in re.findall(r'template\(path = "([^"]+)"', text)]
            included += [pathlib.Path(context, name) for name in re.findall(r'PathBuf::from\("(models/[^"]+)"\)', text)]
            for file in included:
                expect(file.exists(), f".dockerignore: {path.relative_to(context)} includes {file.name}")


def check_configurations():
    """aftercheck takes the configurations."""
    binary = os.environ.get("AFTERCHECK_BIN") or ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/aftercheck"
    for path in [HERE / "aftercheck.toml", *(HERE / "kubernetes" / name / "aftercheck.toml" for name in OVERLAYS)]:
        with tempfile.TemporaryDirectory() as name:
            # What the containers get: addresses in the environment, and a file where each password is mounted.
            secret, copy = pathlib.Path(name, "password"), pathlib.Path(name, "aftercheck.toml")
            secret.write_text("not a password")
            copy.write_text(re.sub(r'(?m)^(password_file = )"[^"]*"', rf'\g<1>"{secret}"', path.read_text("utf-8")))
            environment = {
                **os.environ,
                "AFTERCHECK__POSTGRES__URL": "postgres://aftercheck@postgres/aftercheck",
                "AFTERCHECK__SOURCE__RABBITMQ__URL": "amqp://aftercheck@rabbitmq/%2f",
            }
            command = [str(binary), "--config", str(copy), "schema", "call"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
        expect(done.returncode == 0, f"{path.relative_to(ROOT)}: {done.stderr.strip()}")


def main():
    """Runs all checks."""
    for overlay in OVERLAYS:
        check_kubernetes(overlay)
    check_compose()
    check_image()
    check_configurations()
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"deploy: {len(faults)} faults in the image, compose.yml and {len(OVERLAYS)} overlays")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
