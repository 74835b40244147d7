from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kpng.kube.convert import Filters
from kpng.model import ServiceKey
from kpng.sources.documents import UnreadableError
from kpng.sources.manifests import Content, merge, read_content

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80, targetPort: 8080}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.5], nodeName: n1}]
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: za}}
"""
ALL = f"{SERVICE}---{SLICE}---{NODE}"


def read(text: str, proxy_name: str = "") -> Content:
    return read_content(text.encode(), "f.yaml", Filters(service_proxy_name=proxy_name))


def lines_of(content: Content) -> list[str]:
    return [str(problem) for problem in content.problems]


def summary(content: Content) -> tuple[list[str], list[str], list[str]]:
    state = content.state
    return [str(key) for key in state.services], ["/".join(key) for key in state.sources], list(state.nodes)


EVERYTHING = (["demo/web"], ["demo/web-1"], ["n1"])


def as_list(text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(yaml.safe_load_all(text))}


@pytest.mark.parametrize(
    "text",
    [
        ALL,
        f"---\n{ALL}\n---\n# the end\n",
        yaml.safe_dump(as_list(ALL)),
        json.dumps(as_list(ALL)),
        json.dumps(as_list(ALL), indent="\t"),
        "\n".join(json.dumps(document) + "\n---" for document in yaml.safe_load_all(ALL)),
        "\ufeff" + ALL,
        ALL.replace("\n", "\r\n"),
        ALL.replace("---", "--- # next\napiVersion: v1\nkind: Pod\n---"),
    ],
    ids=["stream", "marks", "list", "json", "json-tabs", "json-stream", "bom", "crlf", "with-pods"],
)
def test_the_many_ways_of_writing_the_same(text: str) -> None:
    content = read(text)
    assert lines_of(content) == []
    assert summary(content) == EVERYTHING
    (endpoint,) = content.state.sources["demo", "web-1"].endpoints
    assert (endpoint.addresses.v4, endpoint.node) == (("10.1.0.5",), "n1")


def test_items_of_a_typed_list_need_not_say_what_they_are() -> None:
    item = yaml.safe_load(SERVICE)
    del item["kind"], item["apiVersion"]
    content = read(json.dumps({"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": [item]}))
    assert summary(content) == (["demo/web"], [], [])
    assert lines_of(content) == []


def test_empty_lists_and_comments_are_nothing() -> None:
    for text in (
        "# nothing here\n",
        "---\n---\n",
        '{"kind":"List","items":[]}',
        '{"kind":"NodeList","items":null}',
    ):
        content = read(text)
        assert (summary(content), lines_of(content)) == (([], [], []), [])


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "ConfigMap"),
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("batch/v1", "CronJob"),
        ("networking.k8s.io/v1", "Ingress"),
        ("example.com/v1alpha1", "Widget"),
        ("serving.knative.dev/v1", "Service"),
    ],
)
def test_other_kinds_are_of_no_interest(version: str, kind: str) -> None:
    content = read(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert (summary(content), lines_of(content)) == (([], [], []), [])


BAD_DOCUMENTS = [
    ("kind: Servce\napiVersion: v1\n", "f.yaml:1: document: kind: 'Servce' of apiVersion 'v1' is not known"),
    ("kind: Thing\n", "f.yaml:1: document: kind: 'Thing' of apiVersion '' is not known"),
    (
        "\n\nkind: Deployment\napiVersion: v1\n",
        "f.yaml:3: document: kind: 'Deployment' of apiVersion 'v1' is not known",
    ),
    (
        "kind: EndpointSlices\napiVersion: discovery.k8s.io/v1\n",
        "f.yaml:1: document: kind: 'EndpointSlices' of apiVersion 'discovery.k8s.io/v1' is not known",
    ),
    (
        "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1beta1\n",
        "f.yaml:1: document (EndpointSlice): apiVersion: 'discovery.k8s.io/v1beta1' is not supported for "
        "EndpointSlice; use discovery.k8s.io/v1",
    ),
    ("hello\n", "f.yaml:1: document: not a Kubernetes object"),
    ("- a\n- b\n", "f.yaml:1: document: not a Kubernetes object"),
    ("metadata: {name: x}\n", "f.yaml:1: document: kind: not set; not a Kubernetes object"),
    ("kind: List\nitems: 3\n", "f.yaml:1: List: items: not a list"),
    ("kind: List\nitems: [3]\n", "f.yaml:1: document: not a Kubernetes object"),
    (
        "kind: Service\nmetadata: {namespace: demo}\nspec: {clusterIP: 10.0.0.1}\n",
        "f.yaml: Service demo/?: metadata.name: not set",
    ),
    (
        "kind: Service\nmetadata: {name: web}\nspec: {ports: []}\n",
        "f.yaml: Service default/web: spec.clusterIP: not set; a file source does not allocate addresses",
    ),
    (
        "kind: Service\nmetadata: {name: web}\nspec: 4\n",
        "f.yaml: Service default/web: spec: expected object, got int",
    ),
    (
        "kind: Service\nmetadata: {name: web, labels: {a: 1}}\nspec: {}\n",
        "f.yaml: Service default/?: metadata.labels[...]: expected str, got int",
    ),
    ("kind: Node\nmetadata: 7\n", "f.yaml: Node ?: metadata: expected object, got int"),
]


@pytest.mark.parametrize(("text", "line"), BAD_DOCUMENTS)
def test_a_bad_document_leaves_the_others(text: str, line: str) -> None:
    content = read(f"{text}---{ALL}")
    assert lines_of(content) == [line]
    assert summary(content) == EVERYTHING


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "the file is empty"),
        (" \n\n", 0, "the file is empty"),
        (f"{ALL}---\nkind: [Node\n", 19, "not valid YAML: did not find expected ',' or ']'"),
        (f"{ALL}metadata: {{}}\n", 17, "not valid YAML: 'metadata' is given twice"),
        ('{"kind": "Service"', 2, "not valid YAML: did not find expected ',' or '}'"),
        ("a: 1\nb: \tc: d", 2, "not valid YAML: mapping values are not allowed in this context"),
    ],
)
def test_a_file_that_breaks_off_counts_for_nothing(text: str, line: int, message: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(text)
    assert (caught.value.line, caught.value.message) == (line, message)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UnreadableError, match="not UTF-8 text") as caught:
        read_content(b"a: 1\nb: \xff\xfe\n", "f.yaml", Filters())
    assert caught.value.line == 2


def test_the_same_object_twice_in_one_file() -> None:
    other = SERVICE.replace("10.96.0.10", "10.96.0.99")
    content = read(f"{SERVICE}---{other}---{SLICE}---{SLICE}---{NODE}---{NODE}")
    assert lines_of(content) == [
        "f.yaml: Service demo/web: is there twice; the first one counts",
        "f.yaml: EndpointSlice demo/web-1: is there twice; the first one counts",
        "f.yaml: Node n1: is there twice; the first one counts",
    ]
    assert content.state.services[ServiceKey("demo", "web")].cluster_ips.v4 == ("10.96.0.10",)


def test_the_same_object_in_two_files() -> None:
    merged = merge([("a.yaml", read(SERVICE)), ("b.yaml", read(ALL)), ("c.yaml", read(NODE))])
    assert lines_of(merged) == [
        "b.yaml: Service demo/web: is already in a.yaml, which counts",
        "c.yaml: Node n1: is already in b.yaml, which counts",
    ]
    assert summary(merged) == EVERYTHING


def test_services_of_other_proxies() -> None:
    labelled = SERVICE.replace(
        "namespace: demo", "namespace: demo, labels: {service.kubernetes.io/service-proxy-name: x}"
    )
    assert summary(read(labelled))[0] == []
    assert summary(read(labelled, "x"))[0] == ["demo/web"]
    assert summary(read(SERVICE, "x"))[0] == []


def test_a_state_file_is_recognised() -> None:
    content = read("services: [{service: {name: web}}]\n")
    assert summary(content) == (["default/web"], [], [])
    content = read("nodes: [{name: n1}]\n---\nnodes: [{name: n2}]\n")
    assert summary(content) == ([], [], ["n1"])
    assert lines_of(content) == ["f.yaml:3: state file: a state file is one document; this one is not read"]


# -- fuzz ------------------------------------------------------------------------------------------

PIECES = [
    "kind",
    "apiVersion",
    "metadata",
    "spec",
    "items",
    "name",
    "namespace",
    "labels",
    "ports",
    "port",
    "endpoints",
    "addresses",
    "clusterIP",
    "addressType",
    "status",
    "Service",
    "Node",
    "EndpointSlice",
    "List",
    "v1",
    "discovery.k8s.io/v1",
    "10.0.0.1",
    "kubernetes.io/service-name",
    "IPv4",
]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(PIECES) | st.text(max_size=4)
anything: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PIECES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
objects_like = st.fixed_dictionaries(
    {"kind": st.sampled_from(["Service", "EndpointSlice", "Node", "List", "ServiceList"])},
    optional={
        "apiVersion": leaves,
        "metadata": anything,
        "spec": anything,
        "items": anything,
        "endpoints": anything,
    },
)


@given(st.lists(objects_like | anything, min_size=1, max_size=3))
def test_any_object_is_taken_or_told(documents: list[Any]) -> None:
    try:
        content = read(yaml.safe_dump_all(documents, allow_unicode=False))
    except UnreadableError:
        return
    for problem in content.problems:
        assert problem.message
        assert problem.origin.startswith("f.yaml")


@given(st.integers(0, len(ALL)), st.binary(max_size=4))
def test_any_cut_or_damage_is_taken_or_told(cut: int, damage: bytes) -> None:
    try:
        content = read_content(ALL.encode()[:cut] + damage, "f.yaml", Filters())
    except UnreadableError:
        return
    assert set(content.state.nodes) <= {"n1"} or damage
