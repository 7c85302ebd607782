#!/usr/bin/env python3
"""Lints the Helm chart, renders it as people install it, and looks at what comes out.

    python tests/deploy/helm.py [CHART]

`npm run check` runs it, with the packages of scripts/python/check.txt. Needs neither a cluster nor the helm command. Every object is validated, unknown fields included,
against the oldest Kubernetes that Chart.yaml admits and the newest whose schemas are at hand.
"""

import base64
import json
import re
import sys
import traceback
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

PATH = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "deploy/helm")
CHART = helm.Chart.load(PATH)
OLDEST = re.search(r"\d+\.\d+", CHART.metadata["kubeVersion"]).group()
NEWEST = kubernetes_validate.latest_version()

IMAGE = "image.repository=your-registry/mess-exchange"
# Somebody has to decide who may join; this way needs no Secret.
JOIN = "settings.join=invitation"
INGRESS = "ingress.enabled=true,ingress.hosts[0].host=a.example"
BUCKET = "storage.type=s3,storage.s3.bucket=mess"
# Every secret value begins with these six bytes, which base64 turns into eight letters of their own.
MARK, MARK_IN_BASE64 = "s3cr3t", base64.b64encode(b"s3cr3t").decode()
TOKEN = f"settings.registrationToken={MARK}-token"
INSTALL = f"{IMAGE},{TOKEN},ingress.enabled=true,ingress.hosts[0].host=mess.yourdomain.com"
S3 = f"{BUCKET},storage.s3.accessKey={MARK}-id,storage.s3.secretKey={MARK}-key"

CASES = []


def case(name):
    return lambda test: CASES.append((name, test)) or test


class Strict(yaml.SafeLoader):
    """YAML, but a key that stands twice is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        same("keys", sorted(keys), sorted(set(keys)))
        return super().construct_mapping(node, deep)


def same(what, got, wanted):
    assert got == wanted, f"{what}: got {got!r}, want {wanted!r}"


class Rendered:
    """What `helm install NAME deploy/helm --set ...` would make, checked for what always holds."""

    def __init__(self, sets="", name="mess-exchange", image=IMAGE, join=JOIN):
        values = helm.parse_set_string(",".join(filter(None, [image, join, sets])))
        self.objects, self.notes = {}, ""
        for path, text in CHART.render(values, name=name, namespace="home").items():
            if path.endswith("NOTES.txt"):
                self.notes = text
                continue
            for found in filter(None, yaml.load_all(text, Strict)):
                assert found["kind"] not in self.objects, f"two objects of kind {found['kind']}"
                self.objects[found["kind"]] = found
        self.deployment = self.objects["Deployment"]["spec"]
        self.pod = self.deployment["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.env = {entry["name"]: entry for entry in self.container["env"]}
        self.volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        self.check_schemas()
        self.check_secrets()
        self.check_pod()
        self.check_connections()

    def check_schemas(self):
        for found in self.objects.values():
            for version in (OLDEST, NEWEST):
                kubernetes_validate.validate(found, version, strict=True)

    def check_secrets(self):
        for kind, found in [*self.objects.items(), ("NOTES.txt", self.notes)]:
            text = json.dumps(found)
            leaks = kind != "Secret" and (MARK in text or MARK_IN_BASE64 in text)
            assert not leaks, f"a secret lies in {kind}"
        data = self.objects.get("Secret", {}).get("data", {})
        self.secret = {key: base64.b64decode(text).decode() for key, text in data.items()}
        name = self.objects["Deployment"]["metadata"]["name"]
        refs = [e["valueFrom"]["secretKeyRef"] for e in self.env.values() if "valueFrom" in e]
        own = [ref["key"] for ref in refs if ref["name"] == name]
        same("keys of the chart's Secret", sorted(own), sorted(self.secret))
        assert not any(ref.get("optional") for ref in refs), "a missing secret goes unnoticed"

    def check_pod(self):
        same("token", self.pod["automountServiceAccountToken"], False)
        if account := self.objects.get("ServiceAccount"):
            same("account's token", account["automountServiceAccountToken"], False)
            same("account", self.pod["serviceAccountName"], account["metadata"]["name"])
        context = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
        context |= {"fsGroupChangePolicy": "OnRootMismatch"}
        context |= {"seccompProfile": {"type": "RuntimeDefault"}}
        same("pod's security", self.pod["securityContext"], context)
        context = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
        context |= {"capabilities": {"drop": ["ALL"]}}
        same("container's security", self.container["securityContext"], context)
        same("ports", self.container["ports"], [{"name": "http", "containerPort": 3000}])
        same("PORT", self.value("PORT"), "3000")
        same("variables", len(self.env), len(self.container["env"]))
        mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        same("mounts", set(mounts), set(self.volumes))
        same("/tmp", (mounts["tmp"], self.volumes["tmp"]["emptyDir"]), ("/tmp", {}))
        if self.value("STORAGE_TYPE") == "filesystem":
            same("strategy", self.deployment["strategy"]["type"], "Recreate")
            same("data", (mounts["data"], self.value("STORAGE_PATH")), ("/data", "/data"))
            assert self.deployment["replicas"] in (0, 1), "two pods on one directory"
            assert not [name for name in self.env if name.startswith("S3_")], "keys of no use"
        else:
            same("strategy", self.deployment["strategy"]["type"], "RollingUpdate")
            same("volumes", set(self.volumes), {"tmp"})
            assert "STORAGE_PATH" not in self.env and "PersistentVolumeClaim" not in self.objects

    def check_connections(self):
        labels = self.deployment["template"]["metadata"]["labels"]
        selector = self.deployment["selector"]["matchLabels"]
        assert selector.items() <= labels.items(), "the deployment does not find its pods"
        service = self.objects["Service"]
        same("service's selector", service["spec"]["selector"], selector)
        same("service's target", service["spec"]["ports"][0]["targetPort"], "http")
        if policy := self.objects.get("NetworkPolicy"):
            same("policy's selector", policy["spec"]["podSelector"]["matchLabels"], selector)
        for spread in self.pod.get("topologySpreadConstraints", []):
            assert spread["labelSelector"]["matchLabels"].items() <= labels.items(), "spreads others"
        if budget := self.objects.get("PodDisruptionBudget"):
            same("budget's selector", budget["spec"]["selector"]["matchLabels"], selector)
        to = {"name": service["metadata"]["name"], "port": {"name": "http"}}
        for rule in self.objects.get("Ingress", {"spec": {"rules": []}})["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                same("ingress's backend", path["backend"], {"service": to})

    def value(self, name):
        return self.env.get(name, {}).get("value")

    def ref(self, name):
        ref = self.env[name]["valueFrom"]["secretKeyRef"]
        return ref["name"], ref["key"]

    def rules(self):
        rules = self.objects["Ingress"]["spec"]["rules"]
        return [
            (rule["host"], path["path"], path["pathType"])
            for rule in rules
            for path in rule["http"]["paths"]
        ]

    def annotations(self):
        return self.deployment["template"]["metadata"].get("annotations", {})


@case("lint, strict")
def _():
    everything = f"{IMAGE},{TOKEN},{S3},replicaCount=3,networkPolicy.enabled=true"
    for sets in (f"{IMAGE},{JOIN}", INSTALL, everything):
        values = helm.parse_set_string(sets)
        for version in (OLDEST, NEWEST):
            report = helm.lint(PATH, values, strict=True, kube_version=f"v{version}")
            same("errors", report["errors"], [])
            same("warnings", [m for m in report["messages"] if m["severity"] > 1], [])


@case("the schema knows each value, and global")
def _():
    same("values", set(CHART.schema["properties"]), {*CHART.values, "global"})
    Rendered("global.anything=1")


@case("the documented install command")
def _():
    got = Rendered(INSTALL, image="", join="")
    kinds = {"Deployment", "Service", "Ingress", "PersistentVolumeClaim", "Secret", "ServiceAccount"}
    same("kinds", set(got.objects), kinds)
    same("names", {found["metadata"]["name"] for found in got.objects.values()}, {"mess-exchange"})
    same("image", got.container["image"], "your-registry/mess-exchange:latest")
    same("rules", got.rules(), [("mess.yourdomain.com", "/", "Prefix")])
    same("PUBLIC_URL", got.value("PUBLIC_URL"), "http://mess.yourdomain.com")
    same("token", got.ref("REGISTRATION_TOKEN"), ("mess-exchange", "registration-token"))
    assert "WARNING" not in got.notes, got.notes
    assert "/api/v1/exchanges/home/register" in got.notes


@case("filesystem, as it is by default")
def _():
    got = Rendered()
    same("replicas", got.deployment["replicas"], 1)
    same("claim", got.volumes["data"]["persistentVolumeClaim"], {"claimName": "mess-exchange"})
    claim = got.objects["PersistentVolumeClaim"]
    same("policy", claim["metadata"]["annotations"], {"helm.sh/resource-policy": "keep"})
    size = {"requests": {"storage": "5Gi"}}
    same("claim", claim["spec"], {"accessModes": ["ReadWriteOnce"], "resources": size})
    plain = {name: entry["value"] for name, entry in got.env.items()}
    wanted = {"PORT": "3000", "STORAGE_TYPE": "filesystem", "STORAGE_PATH": "/data"}
    wanted |= {"DEFAULT_EXCHANGE": "home", "DEFAULT_TIMEZONE": "UTC", "JOIN": "invitation"}
    same("environment", plain, wanted | {"OUTBOUND_ALLOW_PRIVATE": "false"})
    wanted = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "768Mi"}}
    same("resources", got.container["resources"], wanted)
    pause = got.container["lifecycle"]["preStop"]["exec"]["command"]
    same("pause", pause, ["sleep", "5"])
    # The start script ends the runtime by force after 25 s.
    assert got.pod["terminationGracePeriodSeconds"] >= int(pause[1]) + 25 + 5, "it is killed"
    assert "topologySpreadConstraints" not in got.pod
    assert "NetworkPolicy" not in got.objects
    paths = {"startup": "/health", "liveness": "/health", "readiness": "/health?deep=1"}
    for probe, path in paths.items():
        same(probe, got.container[f"{probe}Probe"]["httpGet"], {"path": path, "port": "http"})
    startup = got.container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120, "a slow start is killed"
    assert "port-forward service/mess-exchange 3000:80" in got.notes
    assert "WARNING" not in got.notes, got.notes


@case("filesystem without persistence")
def _():
    got = Rendered("persistence.enabled=false")
    same("data", got.volumes["data"], {"name": "data", "emptyDir": {}})
    assert "PersistentVolumeClaim" not in got.objects
    assert "ALL DATA IS LOST" in got.notes


@case("filesystem on an existing claim")
def _():
    got = Rendered("persistence.existingClaim=mine")
    same("claim", got.volumes["data"]["persistentVolumeClaim"], {"claimName": "mine"})
    assert "PersistentVolumeClaim" not in got.objects


@case("filesystem on a volume of one's choice")
def _():
    own = r"persistence.annotations.helm\.sh/resource-policy=delete,persistence.annotations.a=b"
    more = "persistence.size=1Gi,persistence.storageClass=fast,persistence.accessModes={ReadWriteMany}"
    claim = Rendered(f"{more},{own}").objects["PersistentVolumeClaim"]
    wanted = {"helm.sh/resource-policy": "delete", "a": "b"}
    same("annotations", claim["metadata"]["annotations"], wanted)
    same("class", claim["spec"]["storageClassName"], "fast")
    same("modes", claim["spec"]["accessModes"], ["ReadWriteMany"])
    same("size", claim["spec"]["resources"]["requests"]["storage"], "1Gi")


@case("scaled down to nothing")
def _():
    same("replicas", Rendered("replicaCount=0").deployment["replicas"], 0)
    same("replicas", Rendered(f"{S3},replicaCount=0").deployment["replicas"], 0)


@case("s3 with its keys inline")
def _():
    got = Rendered(S3)
    same("secret", got.secret, {"access-key": "s3cr3t-id", "secret-key": "s3cr3t-key"})
    same("type", got.value("STORAGE_TYPE"), "s3")
    same("bucket", (got.value("S3_BUCKET"), got.value("S3_REGION")), ("mess", "auto"))
    same("access key", got.ref("S3_ACCESS_KEY"), ("mess-exchange", "access-key"))
    same("secret key", got.ref("S3_SECRET_KEY"), ("mess-exchange", "secret-key"))
    assert "S3_ENDPOINT" not in got.env, "AWS has none"
    assert "PodDisruptionBudget" not in got.objects, "one pod could never be evicted"


@case("s3 with an existing secret and three replicas")
def _():
    more = "storage.s3.endpoint=https://s3.example,storage.s3.region=eu-central-1,replicaCount=3"
    got = Rendered(f"{BUCKET},{more},storage.s3.existingSecret=mine")
    same("replicas", got.deployment["replicas"], 3)
    same("endpoint", got.value("S3_ENDPOINT"), "https://s3.example")
    same("region", got.value("S3_REGION"), "eu-central-1")
    same("access key", got.ref("S3_ACCESS_KEY"), ("mine", "access-key"))
    same("secret key", got.ref("S3_SECRET_KEY"), ("mine", "secret-key"))
    same("budget", got.objects["PodDisruptionBudget"]["spec"]["maxUnavailable"], 1)
    assert "Secret" not in got.objects
    keys = "storage.s3.existingSecretKeys.accessKey=id,storage.s3.existingSecretKeys.secretKey=key"
    got = Rendered(f"{BUCKET},storage.s3.existingSecret=mine,{keys}")
    same("access key", got.ref("S3_ACCESS_KEY"), ("mine", "id"))
    same("secret key", got.ref("S3_SECRET_KEY"), ("mine", "key"))
    got = Rendered(f"{S3},replicaCount=3,podDisruptionBudget.enabled=false")
    assert "PodDisruptionBudget" not in got.objects
    got = Rendered(f"{S3},replicaCount=3,podDisruptionBudget.maxUnavailable=50%")
    same("budget", got.objects["PodDisruptionBudget"]["spec"]["maxUnavailable"], "50%")


@case("ingress with TLS")
def _():
    tls = "ingress.tls[0].secretName=mess-tls"
    got = Rendered(f"{INGRESS},ingress.hosts[1].host=b.example,{tls}")
    wanted = [{"secretName": "mess-tls", "hosts": ["a.example", "b.example"]}]
    same("tls", got.objects["Ingress"]["spec"]["tls"], wanted)
    same("PUBLIC_URL", got.value("PUBLIC_URL"), "https://a.example")
    assert "will be at https://a.example" in got.notes
    got = Rendered(f"{INGRESS},{tls},ingress.tls[0].hosts={{a.example}}")
    wanted = [{"secretName": "mess-tls", "hosts": ["a.example"]}]
    same("tls", got.objects["Ingress"]["spec"]["tls"], wanted)


@case("ingress without TLS, with everything else")
def _():
    more = "ingress.className=nginx,ingress.annotations.a=b,ingress.hosts[0].paths[0].path=/mess"
    got = Rendered(f"{INGRESS},{more},ingress.hosts[0].paths[1].pathType=Exact")
    ingress = got.objects["Ingress"]
    same("class", ingress["spec"]["ingressClassName"], "nginx")
    same("annotations", ingress["metadata"]["annotations"], {"a": "b"})
    same("rules", got.rules(), [("a.example", "/mess", "Prefix"), ("a.example", "/", "Exact")])
    assert "tls" not in ingress["spec"]
    same("PUBLIC_URL", got.value("PUBLIC_URL"), "http://a.example")
    got = Rendered(f"{INGRESS},settings.publicUrl=https://front.example/")
    same("PUBLIC_URL", got.value("PUBLIC_URL"), "https://front.example/")
    assert "https://front.example/api" in got.notes


@case("settings with their secrets inline")
def _():
    secrets = f"settings.registrationToken={MARK} token,settings.secretsKey={MARK}NEW= OLD="
    plain = "settings.defaultExchange=hq,settings.defaultTimezone=Europe/Berlin"
    plain += ",settings.nudges.hq.urgent={PT5M,PT30M}"
    secrets += f",settings.operatorToken={MARK}-of-whoever-runs-it"
    plain += ",settings.exchanges={hq,home},settings.allowedHosts={mess.lan},settings.trustProxy=1"
    plain += ",settings.limits.calls=6000,settings.limits.requests=null"
    got = Rendered(f"{INGRESS},{secrets},{plain},settings.outboundAllowPrivate=true", join="")
    wanted = {"registration-token": "s3cr3t token", "secrets-key": "s3cr3tNEW= OLD="}
    same("secret", got.secret, wanted | {"operator-token": "s3cr3t-of-whoever-runs-it"})
    same("operator", got.ref("OPERATOR_TOKEN"), ("mess-exchange", "operator-token"))
    same("exchanges", got.value("EXCHANGES"), "hq,home")
    same("hosts", got.value("ALLOWED_HOSTS"), "mess.lan")
    same("proxies", got.value("TRUST_PROXY"), "1")
    same("limits", got.value("LIMITS"), '{"calls":6000,"requests":null}')
    assert "JOIN" not in got.env, "the token says it"
    same("token", got.ref("REGISTRATION_TOKEN"), ("mess-exchange", "registration-token"))
    same("key", got.ref("SECRETS_KEY"), ("mess-exchange", "secrets-key"))
    same("exchange", got.value("DEFAULT_EXCHANGE"), "hq")
    same("timezone", got.value("DEFAULT_TIMEZONE"), "Europe/Berlin")
    same("private", got.value("OUTBOUND_ALLOW_PRIVATE"), "true")
    same("nudges", got.value("NUDGES"), '{"hq":{"urgent":["PT5M","PT30M"]}}')
    assert "WARNING" not in got.notes and "X-Registration-Token: $TOKEN" in got.notes
    assert "/exchanges/hq/register" in got.notes


@case("settings with an existing secret")
def _():
    got = Rendered(f"{INGRESS},settings.existingSecret=mine", join="")
    assert "OPERATOR_TOKEN" not in got.env, "a Secret need not hold it"
    same("token", got.ref("REGISTRATION_TOKEN"), ("mine", "registration-token"))
    same("key", got.ref("SECRETS_KEY"), ("mine", "secrets-key"))
    assert "Secret" not in got.objects and "WARNING" not in got.notes
    keys = "settings.existingSecretKeys"
    one = f"{keys}.registrationToken=,{keys}.secretsKey=k"
    got = Rendered(f"{INGRESS},settings.existingSecret=mine,{one}")
    same("key", got.ref("SECRETS_KEY"), ("mine", "k"))
    assert "REGISTRATION_TOKEN" not in got.env
    got = Rendered(f"settings.existingSecret=mine,{keys}.operatorToken=o")
    same("operator", got.ref("OPERATOR_TOKEN"), ("mine", "o"))
    one = f"settings.registrationToken={MARK},{keys}.registrationToken="
    got = Rendered(f"settings.existingSecret=mine,{one}")
    same("token", got.ref("REGISTRATION_TOKEN"), ("mess-exchange", "registration-token"))
    same("key", got.ref("SECRETS_KEY"), ("mine", "secrets-key"))


@case("a changed secret, and only that, rolls the pods")
def _():
    def checksum(sets):
        return Rendered(sets).annotations().get("checksum/secret")

    base = checksum(S3)
    same("again", checksum(f"{S3},service.port=8080"), base)
    assert base and base != checksum(f"{S3},settings.secretsKey={MARK}")
    assert base != checksum(f"{S3}2")
    same("without a secret", checksum(""), None)
    same("over one's own", checksum(f"{S3},podAnnotations.checksum/secret=x"), base)


@case("the service")
def _():
    got = Rendered("service.type=LoadBalancer,service.port=8080,service.annotations.a=b")
    service = got.objects["Service"]
    same("type", service["spec"]["type"], "LoadBalancer")
    same("port", service["spec"]["ports"][0]["port"], 8080)
    same("annotations", service["metadata"]["annotations"], {"a": "b"})
    assert "3000:8080" in got.notes


@case("who may join")
def _():
    got = Rendered(join="settings.join=open")
    same("JOIN", got.value("JOIN"), "open")
    assert "WARNING: settings.join is open" in got.notes
    got = Rendered(f"{TOKEN},settings.join=invitation")
    same("JOIN", got.value("JOIN"), "invitation")
    assert "REGISTRATION_TOKEN" in got.env and "WARNING" not in got.notes
    own = "extraEnv[0].name=JOIN,extraEnv[0].value"
    assert "WARNING" in Rendered(f"{own}=open", join="").notes
    assert "WARNING" not in Rendered(f"{own}=invitation", join="").notes
    same("limits", Rendered("settings.limits=off").value("LIMITS"), "off")


@case("the network policy")
def _():
    kinds = "NetworkPolicy"
    policy = Rendered("networkPolicy.enabled=true").objects[kinds]["spec"]
    same("types", policy["policyTypes"], ["Ingress", "Egress"])
    same("callers", policy["ingress"], [{"ports": [{"port": "http"}]}])
    names, public = policy["egress"]
    same("names", {entry["port"] for entry in names["ports"]}, {53})
    excepted = [cidr for to in public["to"] for cidr in to["ipBlock"]["except"]]
    assert {"10.0.0.0/8", "169.254.0.0/16", "fc00::/7"} <= set(excepted), excepted
    rules = "networkPolicy.from[0].podSelector.matchLabels.app=proxy,networkPolicy.egress[0].ports[0].port=9000"
    got = Rendered(f"networkPolicy.enabled=true,{rules},settings.outboundAllowPrivate=true")
    policy = got.objects[kinds]["spec"]
    same("callers", policy["ingress"][0]["from"], [{"podSelector": {"matchLabels": {"app": "proxy"}}}])
    same("store", policy["egress"][-1], {"ports": [{"port": 9000}]})
    assert not [to for to in policy["egress"][1]["to"] if "except" in to["ipBlock"]]


@case("the service account")
def _():
    got = Rendered(r"serviceAccount.annotations.iam\.example/role=r,serviceAccount.name=a")
    account = got.objects["ServiceAccount"]
    same("annotations", account["metadata"]["annotations"], {"iam.example/role": "r"})
    same("name", got.pod["serviceAccountName"], "a")
    got = Rendered("serviceAccount.create=false")
    assert "ServiceAccount" not in got.objects
    same("name", got.pod["serviceAccountName"], "default")
    got = Rendered("serviceAccount.create=false,serviceAccount.name=mine")
    same("name", got.pod["serviceAccountName"], "mine")


@case("several pods are spread, and a pod that stops pauses first")
def _():
    (spread,) = Rendered(f"{S3},replicaCount=2").pod["topologySpreadConstraints"]
    same("over", spread["topologyKey"], "kubernetes.io/hostname")
    same("if not possible", spread["whenUnsatisfiable"], "ScheduleAnyway")
    own = "topologySpreadConstraints[0]"
    own = f"{own}.maxSkew=2,{own}.topologyKey=zone,{own}.whenUnsatisfiable=DoNotSchedule"
    labels = "topologySpreadConstraints[0].labelSelector.matchLabels.app\\.kubernetes\\.io/name"
    (spread,) = Rendered(f"{own},{labels}=mess-exchange").pod["topologySpreadConstraints"]
    same("over", spread["topologyKey"], "zone")
    assert "lifecycle" not in Rendered("preStopSeconds=0").container


@case("the pod's other values")
def _():
    image = "image.tag=1.0,image.pullPolicy=Never,imagePullSecrets[0].name=pull"
    env = "extraEnv[0].name=A,extraEnv[0].value=b,extraEnv[1].name=REGISTRATION_TOKEN"
    env += ",extraEnv[1].valueFrom.secretKeyRef.name=c,extraEnv[1].valueFrom.secretKeyRef.key=d"
    place = "nodeSelector.disk=ssd,tolerations[0].key=only,tolerations[0].operator=Exists"
    term = "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
    labels = r"podAnnotations.a=b,podLabels.team=home,podLabels.app\.kubernetes\.io/name=other"
    rest = "resources.limits.memory=1Gi,terminationGracePeriodSeconds=60,livenessProbe.periodSeconds=7"
    sets = [INGRESS, image, env, place, f"{term}.topologyKey=zone", labels, rest]
    got = Rendered(",".join(sets), join="")
    same("image", got.container["image"], "your-registry/mess-exchange:1.0")
    same("pull policy", got.container["imagePullPolicy"], "Never")
    same("pull secrets", got.pod["imagePullSecrets"], [{"name": "pull"}])
    same("A", got.value("A"), "b")
    same("token", got.ref("REGISTRATION_TOKEN"), ("c", "d"))
    assert "WARNING" not in got.notes
    same("node", got.pod["nodeSelector"], {"disk": "ssd"})
    same("tolerations", got.pod["tolerations"], [{"key": "only", "operator": "Exists"}])
    assert "podAntiAffinity" in got.pod["affinity"]
    labels = got.deployment["template"]["metadata"]["labels"]
    same("labels", (labels["team"], labels["app.kubernetes.io/name"]), ("home", "mess-exchange"))
    same("annotations", got.annotations(), {"a": "b"})
    same("memory", got.container["resources"]["limits"]["memory"], "1Gi")
    same("grace", got.pod["terminationGracePeriodSeconds"], 60)
    same("liveness", got.container["livenessProbe"]["periodSeconds"], 7)


@case("names that fit, whatever the release is called")
def _():
    for release, wanted in (("demo", "demo-mess-exchange"), ("a" * 53, "a" * 53 + "-mess-exch")):
        got = Rendered(f"{S3},{INGRESS},replicaCount=2", name=release)
        same("names", {found["metadata"]["name"] for found in got.objects.values()}, {wanted})


def refused(sets, sentence, image=IMAGE, join=JOIN):
    @case(f"refused: {sets or 'no image'}".replace(MARK, "..."))
    def _():
        try:
            Rendered(sets, image=image, join=join)
        except helm.HelmError as error:
            assert str(error).endswith(sentence), f"another sentence: {error}"
        else:
            raise AssertionError("it was taken")


refused(
    "",
    "image.repository is empty: build the image, push it, and give its name, for example "
    "--set image.repository=your-registry/mess-exchange.",
    image="",
)
refused("replicaCount=-1", "replicaCount must be 0 (scaled down) or more.")
refused(
    "replicaCount=2",
    "replicaCount must be 1 (or 0) with storage.type=filesystem: two processes on one directory "
    "could both win a claim. Use storage.type=s3 for more.",
)
refused("storage.type=r2", 'storage.type is "r2": it must be filesystem or s3.')
refused("storage.type=s3", "storage.type is s3, but storage.s3.bucket is empty.")
for keys in ("", f",storage.s3.accessKey={MARK}", f",storage.s3.secretKey={MARK}"):
    refused(
        BUCKET + keys,
        "storage.type is s3, but the keys are missing: give storage.s3.accessKey and "
        "storage.s3.secretKey, or storage.s3.existingSecret.",
    )
refused(
    f"{BUCKET},storage.s3.existingSecret=mine,storage.s3.accessKey={MARK}",
    "The S3 keys are given twice: give either storage.s3.existingSecret, or storage.s3.accessKey "
    "and storage.s3.secretKey.",
)
refused(
    "storage.s3.bucket=mess",
    "storage.s3.bucket is set, but storage.type is filesystem, which would ignore it: "
    "set storage.type=s3 or leave it out.",
)
refused(
    f"{S3},persistence.existingClaim=mine",
    "persistence.existingClaim is set, but storage.type is s3, which has no volume: "
    "leave one of the two out.",
)
refused(
    "persistence.existingClaim=mine,persistence.enabled=false",
    "persistence.existingClaim is set, but persistence.enabled is false: leave one of the two out.",
)
refused(
    f"settings.existingSecret=mine,settings.registrationToken={MARK}",
    "The registration token is given twice: leave out settings.registrationToken, or empty "
    "settings.existingSecretKeys.registrationToken.",
)
refused(
    f"settings.existingSecret=mine,settings.secretsKey={MARK}",
    "The secrets key is given twice: leave out settings.secretsKey, or empty "
    "settings.existingSecretKeys.secretsKey.",
)
refused(
    f"settings.existingSecret=mine,settings.existingSecretKeys.operatorToken=o,settings.operatorToken={MARK}-of-whoever-runs-it",
    "The operator's token is given twice: leave out settings.operatorToken, or empty "
    "settings.existingSecretKeys.operatorToken.",
)
for sets in (INGRESS, "settings.existingSecret=mine,settings.existingSecretKeys.registrationToken="):
    refused(
        sets,
        "Decide who may join: give settings.registrationToken (or settings.existingSecret), or "
        "settings.join=invitation, or settings.join=open, with which whoever reaches the exchange "
        "can join and read all.",
        join="",
    )
refused(
    f"{TOKEN},settings.join=open",
    "settings.join is open, but there is a registration token, for which nobody would be asked: "
    "leave one of the two out.",
)
refused(
    "settings.join=token",
    "settings.join is token, but there is none: give settings.registrationToken or "
    "settings.existingSecret.",
)
refused(
    "ingress.enabled=true",
    "ingress.enabled is true, but ingress.hosts is empty: give a host, for example "
    "--set ingress.hosts[0].host=mess.example.com.",
)
NO_HOST = ("ingress.hosts[0].host=,ingress.enabled=true", f"{INGRESS},ingress.hosts[1].paths[0].path=/")
for sets in NO_HOST:
    refused(
        sets,
        "An item of ingress.hosts has no host: give each one, for example "
        "--set ingress.hosts[0].host=mess.example.com.",
    )


def mistyped(sets, place):
    @case(f"mistyped: {sets}")
    def _():
        try:
            Rendered(sets)
        except helm.HelmValuesError as error:
            assert f"at '{place}'" in str(error), f"another place: {error}"
        else:
            raise AssertionError("it was taken")


mistyped("replicas=2", "")
mistyped("autoscaling.enabled=true", "")
mistyped("storage.s3.buckets=mess", "/storage/s3")
mistyped("settings.token=x", "/settings")
mistyped("ingress.host=a.example", "/ingress")
mistyped("ingress.hosts[0]=a.example", "/ingress/hosts/0")
mistyped("persistence.existingclaim=mine", "/persistence")
mistyped("replicaCount=two", "/replicaCount")
mistyped("replicaCount=1.5", "/replicaCount")
mistyped("image.tag=12", "/image/tag")
mistyped("settings.registrationToken=12", "/settings/registrationToken")
mistyped("settings.join=everybody", "/settings/join")
mistyped("settings.operatorToken=short", "/settings/operatorToken")
mistyped("settings.trustProxy=yes", "/settings/trustProxy")
mistyped("settings.limits.calls=0", "/settings/limits")
mistyped("settings.limits=on", "/settings/limits")
mistyped("networkPolicy.ingress=x", "/networkPolicy")
mistyped("settings.publicUrl=mess.example.com", "/settings/publicUrl")
mistyped("storage.s3.endpoint=s3.example.com", "/storage/s3/endpoint")
mistyped("service.type=Ingress", "/service/type")
mistyped("extraEnv[0].name=A,extraEnv[0].value=true", "/extraEnv/0/value")
mistyped("podAnnotations.a=true", "/podAnnotations/a")


def main():
    failed = 0
    for name, test in CASES:
        try:
            test()
            print(f"ok    {name}")
        except Exception as error:  # whatever it is, the other cases are to run
            failed += 1
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            print(f"FAIL  {name}: line {line}: {type(error).__name__}: {error}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
