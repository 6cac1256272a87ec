"""The manifests in deploy/: valid, restricted, coherent, and proven in the engine with the same users, mounts and limits."""

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

import kubernetes_validate
import pytest
import requests
import yaml
from conftest import QUICK, ROOT, UNDRAWN, read_page
from test_image import docker, image, needs_engine  # noqa: F401 a fixture
from test_monitor import write_log

from modeler.data.tables import load_table
from modeler.model.stored import StoredModel
from modeler.service.access import make_key

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl, of Debian's package kubernetes-client")
VERSIONS = ["1.31.0", "1.37.0"]  # of Kubernetes
LAG = 2  # seconds until all nodes know that a pod ends
BASE = ROOT / "deploy" / "kubernetes"


def read_example() -> dict[str, str]:
    """The files of the overlay that docs/kubernetes.md shows, by name."""
    blocks = re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", read_page("docs/kubernetes.md"), re.DOTALL)
    return dict(blocks)


def is_modern() -> bool:
    """Whether this kubectl builds overlays as they are written today; Debian 12's is of 2021 and builds the base alone."""
    told = json.loads(subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True).stdout)
    return int(told["clientVersion"]["minor"].rstrip("+")) >= 21


def build(folder: Path) -> list[dict]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, list[dict]]:
    """The base, and the overlay of the docs where this kubectl can build it."""
    made = {"base": build(BASE)}
    if is_modern():
        folder = tmp_path_factory.mktemp("overlay")
        shutil.copytree(BASE, folder / "deploy" / "kubernetes")
        (folder := folder / "overlay").mkdir()
        for name, text in read_example().items():
            (folder / name).write_text(text)
        (folder / "keys").write_text("shop:" + "0" * 64 + "\n")
        made["overlay"] = build(folder)
    return made


def find(manifests: list[dict], kind: str, name: str | None = None) -> dict:
    (found,) = (each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"]))
    return found


def pod_of(manifests: list[dict], kind: str) -> dict:
    """The labels and the specification of the pods that a Deployment or a CronJob makes."""
    spec = find(manifests, kind)["spec"]
    return (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]


PODS = ["Deployment", "CronJob"]


@pytest.mark.medium
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_follow_the_published_schemas(built, version):
    for manifests in built.values():
        assert len(manifests) >= 11
        for manifest in manifests:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("kind", PODS)
def test_pods_keep_to_the_restricted_standard_and_have_limits(built, kind):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for manifests in built.values():
        spec = pod_of(manifests, kind)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys() and not spec["automountServiceAccountToken"]
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        for container in spec["containers"]:
            held = container["securityContext"]
            assert (held["allowPrivilegeEscalation"], held["capabilities"]) == (False, {"drop": ["ALL"]})
            assert held["readOnlyRootFilesystem"] and "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


def test_every_name_leads_somewhere(built):
    for manifests in built.values():
        deployment, (port,) = find(manifests, "Deployment"), find(manifests, "Service")["spec"]["ports"]
        labels = pod_of(manifests, "Deployment")["metadata"]["labels"]
        selectors = [find(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
        selectors += [deployment["spec"]["selector"]["matchLabels"], find(manifests, "Service")["spec"]["selector"]]
        selectors += [find(manifests, "NetworkPolicy", "predict")["spec"]["podSelector"]["matchLabels"]]
        assert all(selector.items() <= labels.items() and selector for selector in selectors)
        job_labels = pod_of(manifests, "CronJob")["metadata"]["labels"]
        assert find(manifests, "NetworkPolicy", "retrain")["spec"]["podSelector"]["matchLabels"] == job_labels
        assert find(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "predict"
        names = {each["name"]: each["containerPort"] for each in pod_of(manifests, "Deployment")["spec"]["containers"][0]["ports"]}
        assert names == {"predict": 3000} and port["targetPort"] == "predict"
        for kind in PODS:
            spec = pod_of(manifests, kind)["spec"]
            (container,) = spec["containers"]
            assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
            for volume in spec["volumes"]:
                if (claim := volume.get("persistentVolumeClaim")) and volume["name"] != "data":  # which the overlay only mounts
                    find(manifests, "PersistentVolumeClaim", claim["claimName"])
                if (secret := volume.get("secret")) and manifests is not built["base"]:
                    assert find(manifests, "Secret", secret["secretName"])["data"].keys() == {"service"}
            (source,) = container["envFrom"]
            settings = find(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
            used = set(re.findall(r"\$\(?([A-Z]+)\b", " ".join(container["args"])))
            assert used == settings.keys()


def test_arguments_of_the_service_are_its_own(built):
    container = pod_of(built["base"], "Deployment")["spec"]["containers"][0]
    source = (ROOT / "service.py").read_text()
    for argument in container["args"][2::2]:
        assert re.search(rf"^    {argument.partition('=')[0]}: ", source, re.MULTILINE)


def test_update_keeps_all_pods_and_ends_none_that_is_asked(built):
    deployment = find(built["base"], "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    spec = deployment["template"]["spec"]
    (container,) = spec["containers"]
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = int(re.search(r"grace: int = Field\((\d+)", (ROOT / "service.py").read_text())[1])
    assert waits > LAG and waits + grace < spec["terminationGracePeriodSeconds"]
    assert find(built["base"], "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2


def list_flags(pod: dict, settings: dict[str, str], volumes: dict[str, Path]) -> list[str]:
    """What makes the engine run a pod's container as Kubernetes would: user, mounts, limits, environment and words."""
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    user, held = spec["securityContext"], container["securityContext"]
    flags = ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--memory", container["resources"]["limits"]["memory"].lower()[:-1]]
    flags += [f"--cap-drop={capability}" for capability in held["capabilities"]["drop"]]
    flags += ["--read-only"] * held["readOnlyRootFilesystem"]
    flags += ["--security-opt=no-new-privileges"] * (not held["allowPrivilegeEscalation"])
    flags += [f"--env={name}={value}" for name, value in settings.items()]
    sources = {volume["name"]: volume for volume in spec["volumes"]}
    for mount in container["volumeMounts"]:
        if scratch := sources[mount["name"]].get("emptyDir"):
            flags += ["--tmpfs", f"{mount['mountPath']}:size={scratch['sizeLimit'][:-1].lower()}"]
        elif folder := volumes.get(mount["name"]):
            folder = folder / mount.get("subPath", "")
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)  # as `fsGroup` would open it
            flags += ["--volume", f"{folder}:{mount['mountPath']}" + ":ro" * mount.get("readOnly", False)]
    command = container.get("command", [])
    return [*flags, *(["--entrypoint", command[0]] if command else [])]


def list_words(pod: dict, settings: dict[str, str]) -> list[str]:
    """What follows the image's name: the rest of the command, and the arguments with their $(NAME) replaced."""
    (container,) = pod["spec"]["containers"]
    words = [*container.get("command", [])[1:], *container["args"]]
    return [re.sub(r"\$\(([A-Z]+)\)", lambda name: settings[name[1]], word) for word in words]


def settings_of(manifests: list[dict], kind: str) -> dict[str, str]:
    (source,) = pod_of(manifests, kind)["spec"]["containers"][0]["envFrom"]
    return find(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]


class Pod:
    """A container of the service, as the Deployment has it, at an address of its own."""

    def __init__(self, tag: str, manifests: list[dict], volumes: dict[str, Path]):
        pod = pod_of(manifests, "Deployment")
        settings = settings_of(manifests, "Deployment") | {"KEYS": "/keys/service", "RATE": "100000"}
        self.spec = pod["spec"]["containers"][0]
        flags = list_flags(pod, settings, volumes)
        self.name = docker("run", "--detach", "--publish", "127.0.0.1::3000", *flags, tag, *list_words(pod, settings))
        self.address = docker("port", self.name, "3000/tcp").splitlines()[0]
        probe, deadline = self.spec["startupProbe"], time.monotonic() + 60
        while not self.is_ready(probe["httpGet"]["path"]):
            assert time.monotonic() < deadline, docker("logs", self.name)
            time.sleep(0.1)

    def is_ready(self, path: str) -> bool:
        try:
            return requests.get(f"http://{self.address}{path}", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def end(self) -> int:
        """What the kubelet does: run `preStop`, then SIGTERM; the exit status."""
        docker("exec", self.name, *self.spec["lifecycle"]["preStop"]["exec"]["command"])
        docker("stop", "--time", "30", self.name)
        return int(docker("inspect", self.name, "--format", "{{.State.ExitCode}}"))


@pytest.mark.slow
@needs_engine
def test_update_in_the_engine_loses_no_request_asks_for_keys_and_logs_to_the_volume(built, image, tmp_path):  # noqa: F811
    project, tag = image
    (golden,) = (project.store / "models" / "breast_cancer").glob("*/golden.json")
    row, failed, answered, ended, pods = json.loads(golden.read_text())["rows"][0], [], [], threading.Event(), []
    endpoints, volumes, (key, line) = [], {"predictions": tmp_path / "log", "keys": tmp_path / "keys"}, make_key("shop")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "service").write_text(line)

    def ask(keeps: bool) -> None:
        """Ask the newest endpoint, on one connection until it is closed or on a new one each time, as a node would pass it on."""
        while not ended.is_set():
            address = endpoints[-1]
            with requests.Session() as session:
                session.headers["authorization"] = f"Bearer {key}"
                try:
                    for _ in range(10_000 if keeps else 1):
                        answer = session.post(f"http://{address}/predict", json=row, timeout=10)
                        answered.append(answer.status_code)
                        if answer.headers.get("connection") == "close" or ended.is_set():
                            break
                except requests.RequestException as error:
                    failed.append(repr(error))

    clients = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(8)]
    try:
        pods.append(Pod(tag, built["base"], volumes))
        endpoints.append(pods[0].address)
        assert requests.post(f"http://{endpoints[0]}/predict", json=row, timeout=10).status_code == 401
        for client in clients:
            client.start()
        pods.append(Pod(tag, built["base"], volumes))
        threading.Timer(LAG, endpoints.append, [pods[1].address]).start()  # begins when the first is told to end
        assert pods[0].end() == 0
        time.sleep(1)
    finally:
        ended.set()
        for client in clients:
            client.join() if client.ident else None
        for pod in pods:
            docker("rm", "--force", pod.name)
    assert failed == [] and set(answered) == {200} and len(answered) > 1000
    lines = [path.read_text().count("\n") for path in (tmp_path / "log" / "breast_cancer").iterdir()]
    assert len(lines) == 2 and lines[0] + lines[1] <= len(answered)  # the second was killed, with what waited


@pytest.fixture(scope="module")
def pipeline_image():
    tag = f"pipeline-of-tests:{os.getpid()}"
    docker("build", "--quiet", "--file", str(ROOT / "deploy" / "pipeline.Dockerfile"), "--tag", tag, str(ROOT))
    yield tag
    docker("rmi", "--force", tag)


@pytest.mark.slow
@needs_engine
def test_job_trains_then_leaves_a_steady_model_alone_and_retrains_a_drifted_one(built, pipeline_image, tmp_path):
    pod, told = pod_of(built["base"], "CronJob"), UNDRAWN | {"OPTIONS": shlex.join(QUICK), "DAYS": "1000", "KEEP": "1"}
    settings = settings_of(built["base"], "CronJob") | told
    volumes = {"store": tmp_path / "claim", "predictions": tmp_path / "log"}
    for folder in volumes.values():
        folder.mkdir()

    def run_job() -> tuple[int, str]:
        flags = list_flags(pod, settings, volumes)
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", "none", *flags, pipeline_image, *list_words(pod, settings)],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    status, told = run_job()
    assert status == 0 and " promoted in " in told and "Traceback" not in told, told
    models, runs = volumes["store"] / "store" / "models" / "breast_cancer", volumes["store"] / "runs"
    version = (models / "latest").read_text().strip()
    assert list((volumes["store"] / "store" / "bentos" / "breast_cancer").iterdir())
    (run,) = runs.glob("*-*")
    model, frame = StoredModel(f"breast_cancer:{version}", models / version), load_table("breast_cancer").frame.drop(columns="diagnosis")
    write_log(volumes["predictions"], model, frame)
    status, told = run_job()
    assert status == 0 and "steady" in told and "promoted" not in told, told
    write_log(volumes["predictions"], model, frame.assign(**{"mean smoothness": frame["mean smoothness"] * 1.5}))
    status, told = run_job()
    assert status == 0 and "drifted" in told and " unchanged in " in told and "promoted" not in told, told
    assert (models / "latest").read_text().strip() == version and run.exists()
