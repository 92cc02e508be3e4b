"""What installs the bridge in a cluster: rendered by the real tools, taken by the real API server."""

import argparse
import re
import subprocess
from typing import Any

import pytest
import yaml
from kubernetes_world import DEPLOY
from prometheus_client import REGISTRY

from cloud_bridge import app, metrics
from motelet.tools.kubernetes import components
from motelet.tools.kubernetes.cluster import Cluster

CHART = DEPLOY / "helm" / "motelet-bridge"
VALUES = [
    [],
    ["replicas=1", "service.type=ClusterIP"],
    ["names={bridge.example.com,10.0.0.5}", "apiWrites=20", "image.tag=1"],
    ["podNamespaces={default,shop}", "deviceProfileNamespaces={default}", "service.annotations.a=b"],
    ["serviceAccountTokenNamespaces={shop}"],
]


def helm(*words: str) -> str:
    if words[0] in ("template", "lint"):
        words = (*words, "--kube-version", components.version())
    done = subprocess.run([str(components.helm()), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(values: list[str]) -> list[dict[str, Any]]:
    options = [word for value in values for word in ("--set", value)]
    text = helm("template", "motelet-bridge", str(CHART), "--namespace", "motelet", *options)
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--filename", str(DEPLOY / "namespace.yaml"))
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(shop))


def dry_run(cluster: Cluster, *words: str, stdin: str | None = None) -> str:
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", *words)
    return cluster.kubectl(*words, stdin=stdin) if stdin else cluster.kubectl(*words)


def test_what_kustomize_renders_is_taken(cluster: Cluster, namespaces: None) -> None:
    said = dry_run(cluster, "--kustomize", str(DEPLOY))
    for each in ("deployment.apps/motelet-bridge", "service/motelet-bridge", "devices.devices.kubeedge.io"):
        assert each in said
    objects = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(DEPLOY))))
    leases = [each for each in objects if each["kind"] == "Role"]
    assert [each["metadata"]["namespace"] for each in leases] == ["kube-node-lease", "motelet"]


@pytest.mark.parametrize("values", VALUES, ids=lambda values: ",".join(values) or "default")
def test_what_helm_renders_is_taken(cluster: Cluster, namespaces: None, values: list[str]) -> None:
    objects = rendered(values)
    dry_run(cluster, "--filename=-", stdin=yaml.safe_dump_all(objects))
    assert {each["kind"] for each in objects} >= {"Deployment", "Service", "ServiceAccount", "ClusterRole"}


def test_the_chart_has_the_rights_of_the_other_way_and_the_definitions() -> None:
    helm("lint", "--strict", str(CHART))
    rights = [each for each in yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text())]
    objects = rendered([])
    assert [each for each in rights if each not in objects] == []
    bound = [each for each in rendered(VALUES[3]) if each["kind"] == "RoleBinding"]
    assert {(each["metadata"]["namespace"], each["roleRef"]["name"]) for each in bound} == {
        ("kube-node-lease", "motelet-bridge"),
        ("motelet", "motelet-bridge"),
        ("default", "motelet-bridge-pods"),
        ("shop", "motelet-bridge-pods"),
        ("default", "motelet-bridge-device-profiles"),
    }
    assert all(each["roleRef"]["name"] != "motelet-bridge-tokens" for each in bound)  # unless it is asked for
    (tokens,) = [each for each in rendered(VALUES[4]) if each["metadata"]["name"] == "motelet-bridge-tokens"
                 and each["kind"] == "RoleBinding"]  # fmt: skip
    assert tokens["metadata"]["namespace"] == "shop" and tokens["roleRef"]["name"] == "motelet-bridge-tokens"
    assert helm("show", "crds", str(CHART)).count("kind: CustomResourceDefinition") == 3


def test_another_release_and_namespace_reach_everything() -> None:
    text = helm("template", "edge", str(CHART), "--namespace", "factory")
    names = {
        (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace"))
        for each in yaml.safe_load_all(text)
        if each
    }
    assert ("ServiceAccount", "edge", "factory") in names and ("ClusterRoleBinding", "edge", None) in names
    subjects = [
        each["subjects"][0] for each in yaml.safe_load_all(text) if each and each["kind"].endswith("Binding")
    ]
    assert {(each["name"], each["namespace"]) for each in subjects} == {("edge", "factory")}


def test_the_chart_has_the_policy_where_the_cluster_knows_such() -> None:
    policy = list(yaml.safe_load_all((DEPLOY / "admission.yaml").read_text()))
    known = ("--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")
    words = ("template", "motelet-bridge", str(CHART), "--namespace", "motelet")
    objects = list(yaml.safe_load_all(helm(*words, *known)))
    assert [each for each in policy if each not in objects] == []
    for text in (helm(*words), helm(*words, *known, "--set", "admissionPolicy=false")):
        assert "MutatingAdmissionPolicy" not in text


def deployments() -> list[dict[str, Any]]:
    plain = list(yaml.safe_load_all((DEPLOY / "bridge.yaml").read_text()))
    charts = [each for values in VALUES for each in rendered(values)]
    return [each for each in (*plain, *charts) if each["kind"] == "Deployment"]


def test_the_bridge_takes_the_options_it_is_given() -> None:
    parser = argparse.ArgumentParser()
    app.configure(parser)
    for each in deployments():
        container = each["spec"]["template"]["spec"]["containers"][0]
        words = [
            word.replace("$(POD_NAME)", "bridge-0").replace("$(POD_NAMESPACE)", "motelet")
            for word in container["args"]
        ]
        args = parser.parse_args(words)
        assert args.kubernetes and args.http == "0.0.0.0:8080" and args.bridge_name == "bridge-0"
        assert args.secrets == "motelet" and args.state is None


def test_alerts_are_about_what_is_counted() -> None:
    assert metrics.connected_nodes
    known = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    known |= {f"{family.name}_total" for family in REGISTRY.collect() if family.type == "counter"}
    known |= {f"{family.name}_bucket" for family in REGISTRY.collect() if family.type == "histogram"}
    known |= {family.name for family in REGISTRY.collect() if family.type == "gauge"}
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        names = re.findall(r"motelet_\w+", rule["expr"])
        assert names and set(names) <= known, rule["alert"]
        assert rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical")
